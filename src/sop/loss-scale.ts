import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { updateLossScale } from '../ops/update_loss_scale.js';

/**
 * What the loss is multiplied by before it is differentiated, where gradients are stored in f16: state of a run, which the
 * device adapts by itself after each step. Checkpoints hold scale and counts.
 */
export interface LossScale {
  /** [1]. */
  readonly scale: Tensor;
  /** u32 [2]: steps since the scale last changed; steps that were skipped because gradients overflowed, in all. */
  readonly counts: Tensor;
  /** u32 [1]: 0, or the flag of a step that was skipped for an overflow, which was lowered again. */
  readonly overflow: Tensor;
}

/** Steps without an overflow after which the scale doubles (PyTorch's GradScaler). */
const INTERVAL = 2000;

const SCALE = 'loss_scale';
const COUNTS = 'loss_scale_counts';

/** Whether a tensor of a checkpoint belongs to the scale of the loss. */
export const isLossScaleName = (name: string): boolean => name === SCALE || name === COUNTS;

export function declareLossScale(graph: Graph): Omit<LossScale, 'overflow'> {
  return { scale: graph.state(SCALE, [1]), counts: graph.state(COUNTS, [2], 'u32') };
}

/** To be called after everything that the flag gates. */
export function adaptLossScale(graph: Graph, flag: Tensor, { scale, counts }: Omit<LossScale, 'overflow'>): LossScale {
  const overflow = graph.one(updateLossScale, [flag, scale, counts], { interval: INTERVAL });
  return { scale, counts, overflow };
}
