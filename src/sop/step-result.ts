import type { Tensor } from '../graph/tensor.js';
import type { TrainStep } from './step-shape.js';

/** What a raised flag points at: 1 is the loss, then the gradients of all packs in order. */
export function flaggedTensor({ packs }: TrainStep, flag: number): string {
  const parameters = packs.flatMap(({ parameters: pack }) => pack.members);
  return flag === 1 ? 'loss' : `gradient of ${parameters[flag - 2]?.label ?? 'an unknown tensor'}`;
}

/** What the host reads of each step: losses, flag, entropy, squares and norms of each pack, counts of lists, the loss's scale. */
export function fetchedTensors(step: TrainStep): Tensor[] {
  const { loss, flag, teacherEntropy, packs, norms, recomputed, lossScale } = step;
  const squares = packs.map((pack) => pack.squares);
  const scaling = lossScale ? [lossScale.scale, lossScale.counts, lossScale.overflow] : [];
  return [loss.total, loss.cls, loss.patch, flag, teacherEntropy, ...squares, ...norms, ...recomputed, ...scaling];
}
