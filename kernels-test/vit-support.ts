import type { NamedArray } from '../src/data/safetensors.js';
import { elements } from '../src/graph/tensor.js';
import { type VitShape, vitSpecs } from '../src/nn/vit.js';
import { Random } from './declare.js';
import { phi } from './gelu.js';

/** Random backbones and what they must compute: timm's VisionTransformer in float64, plain loops. */

/** Width 96 is no multiple of 64, a 5 x 5 grid is odd, and the MLP is not four times as wide. */
export const unusual: VitShape = {
  width: 96,
  depth: 2,
  heads: 3,
  mlpRatio: 2.5,
  patch: 4,
  channels: 3,
  imageSize: 20,
  initStd: 0.02,
};

/** Weights under timm's names, large enough that every part matters. */
export function randomWeights(vit: VitShape, seed = 1): NamedArray[] {
  const random = new Random(seed);
  return vitSpecs(vit).map(({ name, shape, initial }) => {
    const center = initial.kind === 'ones' ? 1 : 0;
    const scale =
      name.endsWith('.weight') && shape.length > 1 ? 1 / Math.sqrt(elements({ shape: shape.slice(1) })) : 0.3;
    const data = Float32Array.from({ length: elements({ shape }) }, () => center + scale * random.normal());
    return { name, dtype: 'F32', shape, data };
  });
}

type Values = ArrayLike<number>;

/** y = x W^T + b over rows of x. */
function linear(x: Float64Array, weight: Values, bias: Values): Float64Array {
  const outputs = bias.length;
  const inputs = weight.length / outputs;
  return Float64Array.from({ length: (x.length / inputs) * outputs }, (_, at) => {
    const [row, out] = [Math.floor(at / outputs), at % outputs];
    let sum = bias[out]!;
    for (let i = 0; i < inputs; i++) sum += x[row * inputs + i]! * weight[out * inputs + i]!;
    return sum;
  });
}

function layerNorm(x: Float64Array, weight: Values, bias: Values): Float64Array {
  const width = weight.length;
  return x.map((value, at) => {
    const row = x.subarray(at - (at % width), at - (at % width) + width);
    const mean = row.reduce((a, b) => a + b) / width;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / width;
    return ((value - mean) / Math.sqrt(variance + 1e-6)) * weight[at % width]! + bias[at % width]!;
  });
}

function attention(qkv: Float64Array, width: number, heads: number): Float64Array {
  const rows = qkv.length / (3 * width);
  const size = width / heads;
  const result = new Float64Array(rows * width);
  for (let head = 0; head < heads; head++) {
    const at = (row: number, part: number, i: number): number => qkv[row * 3 * width + part * width + head * size + i]!;
    for (let row = 0; row < rows; row++) {
      const scores = Array.from({ length: rows }, (_, other) => {
        let sum = 0;
        for (let i = 0; i < size; i++) sum += at(row, 0, i) * at(other, 1, i);
        return Math.exp(sum / Math.sqrt(size));
      });
      const total = scores.reduce((a, b) => a + b);
      for (let i = 0; i < size; i++) {
        result[row * width + head * size + i] = scores.reduce(
          (sum, p, other) => sum + (p / total) * at(other, 2, i),
          0,
        );
      }
    }
  }
  return result;
}

/** Tokens after the final norm [1 + patches, width] of one image, f32 [C, size, size]; row 0 is [CLS]. */
function referenceTokens(vit: VitShape, weights: readonly NamedArray[], image: Values): Float64Array {
  const { width, patch, channels, imageSize: size } = vit;
  const get = (name: string): Float32Array => weights.find((array) => array.name === name)?.data as Float32Array;
  const side = size / patch;
  const patches = new Float64Array(side * side * channels * patch * patch);
  let at = 0;
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++)
      for (let c = 0; c < channels; c++)
        for (let y = 0; y < patch; y++)
          for (let x = 0; x < patch; x++)
            patches[at++] = image[(c * size + row * patch + y) * size + column * patch + x]!;
  const embedded = linear(patches, get('patch_embed.proj.weight'), get('patch_embed.proj.bias'));
  const positions = get('pos_embed');
  let tokens = Float64Array.from([...get('cls_token'), ...embedded], (value, i) => value + positions[i]!);
  for (let i = 0; i < vit.depth; i++) {
    const both = (module: string): [Float32Array, Float32Array] => [
      get(`blocks.${i}.${module}.weight`),
      get(`blocks.${i}.${module}.bias`),
    ];
    const plus = (branch: Float64Array): Float64Array => tokens.map((value, j) => value + branch[j]!);
    const attended = attention(linear(layerNorm(tokens, ...both('norm1')), ...both('attn.qkv')), width, vit.heads);
    tokens = plus(linear(attended, ...both('attn.proj'))) as typeof tokens;
    const hidden = linear(layerNorm(tokens, ...both('norm2')), ...both('mlp.fc1'));
    const active = hidden.map((value) => value * phi(value));
    tokens = plus(linear(active, ...both('mlp.fc2'))) as typeof tokens;
  }
  return layerNorm(tokens, get('norm.weight'), get('norm.bias'));
}

/** The first row of `referenceTokens`. */
export function referenceFeature(vit: VitShape, weights: readonly NamedArray[], image: Values): Float64Array {
  return referenceTokens(vit, weights, image).subarray(0, vit.width);
}
