import type { Tensor } from '../graph/tensor.js';
import type { Elements } from '../plan/replay.js';
import type { TrainStep } from './step-shape.js';

/** What the device says of a step. */
export interface StepResult {
  /** `lossCls` and `lossPatch` under their weights. */
  readonly loss: number;
  /** Nats, mean over the images; likewise `lossPatch`. */
  readonly lossCls: number;
  readonly lossPatch: number;
  /** L2 norm of all gradients together, before clipping. */
  readonly gradNorm: number;
  /** L2 norm of the student's parameters after the step; `updateNorm` of what the step added to them. */
  readonly paramNorm: number;
  readonly updateNorm: number;
  /** Nats. */
  readonly teacherEntropy: number;
  /** The tensor that was not finite, of a step that was told to tolerate one and changed nothing; else null. */
  readonly skipped: string | null;
  /** Lists of neighbours that were searched anew, of all memories; null where none keeps lists. */
  readonly recomputedLists: number | null;
  /** Of gradients in f16; null in f32. */
  readonly lossScale: LossScaleResult | null;
}

/** The scale of the loss after a step (`train.loss_scale`). */
export interface LossScaleResult {
  /** For the next step. */
  readonly scale: number;
  /** Steps that were skipped because gradients overflowed, since the run began. */
  readonly skippedSteps: number;
  /** The gradient that overflowed in this step, which changed nothing but the scale; else null. */
  readonly overflow: string | null;
}

/** What a raised flag points at: 1 is the loss, then the gradients of all packs in order. */
export function flaggedTensor({ packs }: TrainStep, flag: number): string {
  const parameters = packs.flatMap(({ parameters: pack }) => pack.members);
  return flag === 1 ? 'loss' : `gradient of ${parameters[flag - 2]?.label ?? 'an unknown tensor'}`;
}

/** What the host reads of each step. */
export function fetchedTensors(step: TrainStep): Tensor[] {
  const { loss, flag, teacherEntropy, packs, norms, recomputed, lossScale } = step;
  const squares = packs.map((pack) => pack.squares);
  const scaling = lossScale ? [lossScale.scale, lossScale.counts, lossScale.overflow] : [];
  return [loss.total, loss.cls, loss.patch, flag, teacherEntropy, ...squares, ...norms, ...recomputed, ...scaling];
}

/** What the contents of the fetched tensors say. */
export function stepResult(step: TrainStep, fetched: ReadonlyMap<Tensor, Elements>): StepResult {
  const { loss, flag, teacherEntropy, packs, norms, recomputed, lossScale } = step;
  const number = (tensor: Tensor, at = 0): number => fetched.get(tensor)?.[at] ?? Number.NaN;
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const flagged = (tensor: Tensor): string | null => (number(tensor) ? flaggedTensor(step, number(tensor)) : null);
  return {
    loss: number(loss.total),
    lossCls: number(loss.cls),
    lossPatch: number(loss.patch),
    gradNorm: Math.sqrt(sum(packs.flatMap(({ squares }) => [...(fetched.get(squares) ?? [])]))),
    paramNorm: Math.sqrt(sum(norms.map((pair) => number(pair, 0)))),
    updateNorm: Math.sqrt(sum(norms.map((pair) => number(pair, 1)))),
    teacherEntropy: number(teacherEntropy),
    skipped: flagged(flag),
    recomputedLists: recomputed.length > 0 ? sum(recomputed.map((count) => number(count))) : null,
    lossScale: lossScale && {
      scale: number(lossScale.scale),
      skippedSteps: number(lossScale.counts, 1),
      overflow: flagged(lossScale.overflow),
    },
  };
}
