import type { Graph, Pack } from '../graph/graph.js';
import type { Scalar } from '../graph/op.js';
import type { Tensor } from '../graph/tensor.js';
import { packNorms } from '../ops/pack_norms.js';
import { updateAdamw } from '../ops/update_adamw.js';
import { updateLossScaleGradients } from '../ops/update_loss_scale.js';
import { packBlocks, packTable } from './pack-table.js';

export interface AdamwOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Largest norm of each parameter tensor's gradient; 0 for none. */
  readonly clip: number;
}

/** AdamW's constants in DINO, iBOT and the release. */
export const ADAMW = { beta1: 0.9, beta2: 0.999, eps: 1e-8 } as const;

/** Numbers of a step: learning rate, weight decay and 1 - beta^t for both moments. */
export interface AdamwScalars {
  readonly lr: Scalar;
  readonly weightDecay: Scalar;
  readonly correction1: Scalar;
  readonly correction2: Scalar;
}

/** Flat buffers of one group of parameters, all with the same offsets. */
export interface ParameterPack {
  readonly parameters: Pack;
  readonly gradients: Pack;
  readonly moment1: Pack;
  readonly moment2: Pack;
  /** f32 [tensors]: sum of squares of each gradient. */
  readonly squares: Tensor;
}

/**
 * Lays parameters, gradients and moments out in flat buffers and appends the nodes that measure every gradient's norm, after
 * dividing all by `scale` [1] where the loss was multiplied by it. `moments` are state tensors like the parameters; a pack holds at most `maxElements`.
 */
export function packParameters(
  graph: Graph,
  tensors: {
    readonly parameters: readonly Tensor[];
    readonly gradients: readonly Tensor[];
    readonly moments: readonly [readonly Tensor[], readonly Tensor[]];
  },
  maxElements: number,
  scale: Tensor | null = null,
): ParameterPack[] {
  const parameters = graph.pack('student', tensors.parameters, maxElements);
  const gradients = graph.pack('gradient', tensors.gradients, maxElements);
  const moment1 = graph.pack('moment1', tensors.moments[0], maxElements);
  const moment2 = graph.pack('moment2', tensors.moments[1], maxElements);
  return parameters.map((pack, i) => {
    const [gradient, first, second] = [gradients[i], moment1[i], moment2[i]];
    if (!gradient || !first || !second) throw new RangeError('packs of parameters, gradients and moments differ');
    const { blocks, first: firstBlocks } = packBlocks(graph, gradient);
    if (scale) graph.add(updateLossScaleGradients, [gradient.flat, scale], {});
    const squares = graph.one(packNorms, [gradient.flat, blocks, firstBlocks], {});
    return { parameters: pack, gradients: gradient, moment1: first, moment2: second, squares };
  });
}

/** Steps that changed nothing and do not count in the bias correction: `counts` of the loss scale, and t with all of them. */
export interface SkippedUpdates {
  readonly counts: Tensor;
  readonly step: Scalar;
}

/**
 * Clips each gradient by its own norm, then AdamW (PyTorch's, decoupled decay where `decays` says so), unless the flag is
 * up. Returns f32 [2]: sums of squares of the updated parameters and of the update.
 */
export function adamw(
  graph: Graph,
  flag: Tensor,
  pack: ParameterPack,
  decays: (parameter: Tensor) => boolean,
  scalars: AdamwScalars,
  options: AdamwOptions,
  skipped: SkippedUpdates | null = null,
): Tensor {
  const table = packTable(graph, pack.parameters, decays);
  const inputs = [
    flag,
    pack.parameters.flat,
    pack.gradients.flat,
    pack.moment1.flat,
    pack.moment2.flat,
    pack.squares,
    table,
    ...(skipped ? [skipped.counts] : []),
  ];
  return graph.one(updateAdamw, inputs, { ...scalars, ...options, ...(skipped && { step: skipped.step }) });
}
