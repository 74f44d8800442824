import type { Graph } from '../graph/graph.js';
import { realType, type Tensor } from '../graph/tensor.js';
import { add } from '../ops/add.js';
import { attention } from '../ops/attention.js';
import { cast } from '../ops/cast.js';
import { embedTokens } from '../ops/embed_tokens.js';
import { gelu } from '../ops/gelu.js';
import { patchify } from '../ops/patchify.js';
import { posResample } from '../ops/pos_resample.js';
import { residual } from '../ops/residual.js';
import type { Segment } from '../ops/segments.js';
import { linear, norm } from './layers.js';
import {
  get,
  type InitStd,
  linearInitial,
  linearSpecs,
  normSpecs,
  type ParameterSpec,
  type Parameters,
} from './parameters.js';

/** Sizes of a Vision Transformer (timm's `vit_*_patch*`, no head). */
export interface VitShape {
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly mlpRatio: number;
  readonly patch: number;
  readonly channels: number;
  /** Side of the images that the position embedding is made for, pixels. */
  readonly imageSize: number;
  readonly initStd: InitStd;
}

/** Name of the vector that stands for masked patches; the teacher has none (e_[MASK] of the paper's Section 2.3). */
export const MASKED_EMBED = 'masked_embed';

/** Patches along a side. */
export function gridSide(imageSize: number, patch: number): number {
  return imageSize / patch;
}

/** The MLP ratio of a hidden width: never so little too small that timm's `int(width * mlp_ratio)` is one less. */
export function mlpRatioOf(hidden: number, width: number): number {
  const ratio = hidden / width;
  return Math.floor(width * ratio) < hidden ? ratio * (1 + Number.EPSILON) : ratio;
}

/** Parameters of the backbone in timm's order and shapes. */
export function vitSpecs(vit: VitShape): ParameterSpec[] {
  const { width, depth, patch, channels, initStd } = vit;
  const patches = gridSide(vit.imageSize, patch) ** 2;
  const hidden = Math.round(width * vit.mlpRatio);
  const inputs = channels * patch * patch;
  // [CLS] and positions start as the weights do: they are added to patches, whose values of small widths are of order 1.
  const token = linearInitial(initStd, width);
  const convolution = { kind: 'convolution', inputs } as const;
  return [
    { name: 'cls_token', shape: [1, 1, width], graphShape: [width], initial: token, decay: true },
    {
      name: 'pos_embed',
      shape: [1, 1 + patches, width],
      graphShape: [1 + patches, width],
      initial: token,
      decay: true,
    },
    {
      name: 'patch_embed.proj.weight',
      shape: [width, channels, patch, patch],
      graphShape: [width, inputs],
      initial: convolution,
      decay: true,
    },
    { name: 'patch_embed.proj.bias', shape: [width], graphShape: [width], initial: convolution, decay: false },
    ...Array.from({ length: depth }, (_, i) => [
      ...normSpecs(`blocks.${i}.norm1`, width),
      ...linearSpecs(`blocks.${i}.attn.qkv`, width, 3 * width, initStd),
      ...linearSpecs(`blocks.${i}.attn.proj`, width, width, initStd),
      ...normSpecs(`blocks.${i}.norm2`, width),
      ...linearSpecs(`blocks.${i}.mlp.fc1`, width, hidden, initStd),
      ...linearSpecs(`blocks.${i}.mlp.fc2`, hidden, width, initStd),
    ]).flat(),
    ...normSpecs('norm', width),
  ];
}

/** `masked_embed` [1, W], starting at zero. */
export function maskedEmbedSpec({ width }: VitShape): ParameterSpec {
  return { name: MASKED_EMBED, shape: [1, width], graphShape: [width], initial: { kind: 'zeros' }, decay: true };
}

/** The parameters of a network with copies in f16 in the place of its backbone's matrices; the rest, and the head, stay f32. */
export function halfMatrices(graph: Graph, parameters: Parameters): Parameters {
  const isMatrix = /^(patch_embed|blocks)\..*(proj|qkv|fc[12])\.weight$/;
  const copy = (name: string, tensor: Tensor): Tensor =>
    isMatrix.test(name) ? graph.one(cast, [tensor], { dtype: 'f16' }) : tensor;
  return new Map([...parameters].map(([name, tensor]) => [name, copy(name, tensor)]));
}

/** What the encoder reads. */
export interface Views {
  /** Images [n, C, side, side], one tensor a size; the global views first. */
  readonly images: readonly Tensor[];
  /** u32 [n_0, patches]: 1 where a patch of the first tensor's images is replaced by `masked_embed`. */
  readonly mask?: Tensor;
  /** f32 [2 depth, sequences]: factor of each residual branch, 0 or 1 / (1 - rate); two rows a block, attention first. */
  readonly keep?: Tensor;
  /** Whether blocks run again in the backward pass instead of keeping their activations. */
  readonly recompute?: boolean;
}

/** Tokens after the final norm, f32 [R, W], and how its rows are divided into sequences of 1 + patches. */
export interface Encoded {
  readonly tokens: Tensor;
  readonly segments: readonly Segment[];
}

/** Sequences that images [n, C, side, side] become: one each, [CLS] first. */
function segmentsOf(vit: VitShape, images: readonly Tensor[]): Segment[] {
  return images.map(({ shape: [count = 0, , height = 0] }) => ({
    count,
    length: 1 + gridSide(height, vit.patch) ** 2,
  }));
}

/**
 * The encoder: a Vision Transformer as in DINO, iBOT and timm. Images of all sizes go through together: every layer but
 * attention treats rows alike, so global and local views are rows of one tensor and each weight is used once. Where the
 * matrices of `parameters` are f16 (`halfMatrices`), so is all that flows between the layers, and its gradients.
 */
export function encode(graph: Graph, vit: VitShape, parameters: Parameters, views: Views): Encoded {
  const segments = segmentsOf(vit, views.images);
  const dtype = realType(get(parameters, 'patch_embed.proj.weight'));
  const rows = graph.one(patchify, views.images, { patch: vit.patch, dtype });
  const patches = linear(graph, parameters, 'patch_embed.proj', rows);
  const native = gridSide(vit.imageSize, vit.patch);
  const positions = views.images.map(({ shape }) => {
    const side = gridSide(shape[2] ?? 0, vit.patch);
    const pos = get(parameters, 'pos_embed');
    return side === native ? pos : graph.one(posResample, [pos], { from: [native, native], to: [side, side] });
  });
  const masked = views.mask ? [get(parameters, MASKED_EMBED), views.mask] : [];
  const inputs = [patches, get(parameters, 'cls_token'), ...positions, ...masked];
  let tokens = graph.one(embedTokens, inputs, { segments, masked: masked.length > 0 });
  for (let i = 0; i < vit.depth; i++) {
    const run = (): Tensor => block(graph, vit, parameters, i, tokens, segments, views.keep);
    tokens = views.recompute ? graph.recompute(run) : run();
  }
  return { tokens: norm(graph, parameters, 'norm', tokens, 'f32'), segments };
}

/** Pre-norm block: x + attn(norm1(x)), then x + mlp(norm2(x)), each branch with stochastic depth where `keep` is given. */
function block(
  graph: Graph,
  vit: VitShape,
  parameters: Parameters,
  index: number,
  x: Tensor,
  segments: readonly Segment[],
  keep: Tensor | undefined,
): Tensor {
  const name = `blocks.${index}`;
  const join = (before: Tensor, branch: Tensor, row: number): Tensor =>
    keep ? graph.one(residual, [before, branch, keep], { row, segments }) : graph.one(add, [before, branch], {});

  const qkv = linear(graph, parameters, `${name}.attn.qkv`, norm(graph, parameters, `${name}.norm1`, x));
  const [attended] = graph.scope(`${name}.attn`, () => graph.pair(attention, [qkv], { heads: vit.heads, segments }));
  const middle = join(x, linear(graph, parameters, `${name}.attn.proj`, attended), 2 * index);

  const hidden = linear(graph, parameters, `${name}.mlp.fc1`, norm(graph, parameters, `${name}.norm2`, middle));
  const active = graph.scope(`${name}.mlp`, () => graph.one(gelu, [hidden], {}));
  return join(middle, linear(graph, parameters, `${name}.mlp.fc2`, active), 2 * index + 1);
}
