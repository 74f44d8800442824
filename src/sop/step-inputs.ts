import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { gridSide } from '../nn/vit.js';
import { ADAMW } from '../optim/adamw.js';
import type { Elements, Replay } from '../plan/replay.js';
import type { Pairs } from './losses.js';
import type { MaskInputs } from './masks.js';
import type { BatchShape, StepShape } from './step-shape.js';

/** Numbers that change from step to step. */
export function stepScalars(graph: Graph) {
  return {
    lr: graph.scalar('lr'),
    weightDecay: graph.scalar('weight_decay'),
    correction1: graph.scalar('correction1'),
    correction2: graph.scalar('correction2'),
    /** 1 - the EMA momentum of the teacher. */
    teacherRate: graph.scalar('teacher_rate'),
    studentTemp: graph.scalar('student_temp'),
    teacherTemp: graph.scalar('teacher_temp'),
    seed: graph.scalar('seed', 'u32'),
    /** Counts optimizer steps; picks the anchors. */
    step: graph.scalar('step', 'u32'),
  };
}
export type StepScalars = ReturnType<typeof stepScalars>;

/** The numbers of one step that schedules decide. */
export interface StepValues {
  /** Optimizer steps before this one, plus 1: the t of AdamW's bias correction, less those that the loss scale skipped. */
  readonly step: number;
  readonly lr: number;
  readonly weightDecay: number;
  /** EMA momentum of the teacher. */
  readonly momentum: number;
  readonly teacherTemp: number;
}

/** Sets the scalars of one step. */
export function setStepValues(replay: Pick<Replay, 'setScalar'>, scalars: StepScalars, values: StepValues): void {
  replay.setScalar(scalars.step, values.step);
  replay.setScalar(scalars.lr, values.lr);
  replay.setScalar(scalars.weightDecay, values.weightDecay);
  // From float64: in f32 the difference would have a few digits only, and none at the end of a run.
  replay.setScalar(scalars.teacherRate, 1 - values.momentum);
  replay.setScalar(scalars.teacherTemp, values.teacherTemp);
  replay.setScalar(scalars.correction1, 1 - ADAMW.beta1 ** values.step);
  replay.setScalar(scalars.correction2, 1 - ADAMW.beta2 ** values.step);
}

/** What `debug step` files call the rows of `keep`, in their order: `keep.0.attn`, `keep.0.mlp`, `keep.1.attn` ... */
export function keepNames(depth: number): string[] {
  return Array.from({ length: 2 * depth }, (_, row) => `keep.${row >> 1}.${row % 2 === 0 ? 'attn' : 'mlp'}`);
}

/** What the host writes for each micro-batch, besides the images. */
export function batchInputs(
  graph: Graph,
  { network: { vit }, dropPath }: StepShape,
  { images, maskedPatches, teacherPatches }: BatchShape,
  globalSize: number,
  sequences: number,
) {
  const globals = 2 * images;
  return {
    /** u32 [2 B, L]: 1 at masked patches of the global views. */
    mask: graph.input('mask', [globals, gridSide(globalSize, vit.patch) ** 2], 'u32'),
    /** f32 [2 depth, V B]: factors of the residual branches (vit.ts), where branches are dropped. */
    keep: dropPath ? graph.input('keep', [2 * vit.depth, sequences]) : null,
    /** u32: token rows of the masked patches; `NO_ROW` pads. */
    maskedRows: graph.input('masked_rows', [maskedPatches], 'u32'),
    /** u32: token rows of the teacher's patches that reach the head. */
    teacherRows: graph.input('teacher_rows', [teacherPatches], 'u32'),
    /** For each masked patch its partner among the teacher's patches, and 1 / (its image's masked patches x 2 B). */
    patchPairs: {
      partners: graph.input('patch_partners', [maskedPatches, 2], 'u32'),
      weights: graph.input('patch_weights', [maskedPatches]),
    } satisfies Pairs,
    /** u32 [B]: which of the teacher's patches E_P gets. */
    insertedRows: graph.input('inserted_rows', [images], 'u32'),
  };
}
export type BatchInputs = ReturnType<typeof batchInputs>;

/** Contents of a tensor that the host writes before a step. */
export type Write = readonly [Tensor, Elements];

/** The index lists of a micro-batch's masks, for the inputs that they belong to. */
export function maskWrites(inputs: BatchInputs, lists: MaskInputs): Write[] {
  return [
    [inputs.mask, lists.mask],
    [inputs.maskedRows, lists.maskedRows],
    [inputs.teacherRows, lists.teacherRows],
    [inputs.patchPairs.partners, lists.partners],
    [inputs.patchPairs.weights, lists.weights],
    [inputs.insertedRows, lists.insertedRows],
  ];
}
