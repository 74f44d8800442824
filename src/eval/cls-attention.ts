import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import { declare } from '../nn/parameters.js';
import { encode, gridSide, vitSpecs } from '../nn/vit.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { Replay } from '../plan/replay.js';
import type { Weights } from './encoder.js';
import type { LoadedWeights } from './weights.js';

/** The attention of the [CLS] token in the last block (as DINO's figures show it). */
export interface ClsAttention {
  /** Takes other weights of the same shape. */
  load(weights: Weights): void;
  /** Of a preprocessed image f32 [C, size, size]: f32 [heads, patches], rows of the softmax without [CLS] itself. */
  of(image: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
  destroy(): void;
}

/** Compiles the forward pass of one image. The device keeps q, k, v of the last block; one row of scores is computed here. */
export async function clsAttention(gpu: Gpu, { vit, weights }: LoadedWeights): Promise<ClsAttention> {
  const graph = new Graph();
  const images = graph.input('images', [1, vit.channels, vit.imageSize, vit.imageSize]);
  const parameters = declare(graph, 'encoder', vitSpecs(vit), 'state');
  encode(graph, vit, parameters, { images: [images] });
  const qkv = graph.nodes.findLast(({ op }) => op.name === 'attention')?.inputs[0];
  if (!qkv) throw new RangeError('the encoder has no attention');
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [qkv])), [qkv]);
  const load = (values: Weights): void => {
    for (const [name, tensor] of parameters) replay.write(tensor, values.get(name) as Float32Array<ArrayBuffer>);
  };
  load(weights);
  return {
    load,
    async of(image) {
      replay.write(images, image);
      const [rows] = await replay.run();
      return clsRows(rows as Float32Array, vit.heads, vit.width, gridSide(vit.imageSize, vit.patch) ** 2);
    },
    destroy: () => replay.destroy(),
  };
}

/** softmax(q_cls k^T / sqrt(width / heads)) of each head, from qkv [1 + patches, 3 width]; column 0, [CLS], is left out. */
function clsRows(qkv: Float32Array, heads: number, width: number, patches: number): Float32Array<ArrayBuffer> {
  const size = width / heads;
  const result = new Float32Array(heads * patches);
  for (let head = 0; head < heads; head++) {
    const scores = new Float64Array(1 + patches);
    for (let token = 0; token <= patches; token++) {
      const key = 3 * width * token + width + head * size;
      for (let i = 0; i < size; i++) scores[token]! += (qkv[head * size + i]! * qkv[key + i]!) / Math.sqrt(size);
    }
    const most = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const sum = scores.reduce((total, score) => total + Math.exp(score - most), 0);
    for (let patch = 0; patch < patches; patch++)
      result[head * patches + patch] = Math.exp(scores[1 + patch]! - most) / sum;
  }
  return result;
}
