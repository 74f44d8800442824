import type { Graph } from '../graph/graph.js';
import { gridSide } from '../nn/vit.js';
import type { Pairs } from './losses.js';
import type { BatchShape, StepShape } from './step-shape.js';

/** Numbers that change from step to step. */
export function stepScalars(graph: Graph) {
  return {
    lr: graph.scalar('lr'),
    weightDecay: graph.scalar('weight_decay'),
    correction1: graph.scalar('correction1'),
    correction2: graph.scalar('correction2'),
    momentum: graph.scalar('momentum'),
    studentTemp: graph.scalar('student_temp'),
    teacherTemp: graph.scalar('teacher_temp'),
    seed: graph.scalar('seed', 'u32'),
    /** Counts optimizer steps; picks the anchors. */
    step: graph.scalar('step', 'u32'),
  };
}
export type StepScalars = ReturnType<typeof stepScalars>;

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
    /** u32: token rows of the masked patches; `NONE` pads. */
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
