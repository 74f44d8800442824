import type { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { maskInputs } from '../src/sop/masks.js';
import { maskWrites } from '../src/sop/step-inputs.js';
import type { MicroBatch, StepShape, TrainStep, ViewTensors } from '../src/sop/step-shape.js';
import { Random } from './declare.js';
import { draw } from './traced.js';

/** A small training step, and random state and inputs for it: tests run it on the device, in float64, or both. */
const BATCH = 3;
const PATCHES = 16;
const MICRO_BATCH = { images: BATCH, maskedPatches: 30, teacherPatches: 30 + BATCH };

/** Two micro-batches of 3 grey images of 28 x 28 in patches of 7, two local views of 14 x 14; all that `change` does not say otherwise. */
export function smallStep(change: Partial<StepShape> = {}): StepShape {
  return {
    network: {
      vit: { width: 16, depth: 2, heads: 2, mlpRatio: 2, patch: 7, channels: 1, imageSize: 28, initStd: 0.02 },
      head: { hidden: 20, layers: 3, out: 12 },
      globalFeature: 'cls',
    },
    batches: [MICRO_BATCH, MICRO_BATCH],
    prototypes: { contributions: 'soft', smoothing: 0.1, search: 'all' },
    cls: { memory: 23, anchors: 7, neighbours: 3, tasks: 2, listed: false },
    patch: { memory: 17, anchors: 9, neighbours: 0, tasks: 1, listed: false },
    clsWeight: 1,
    patchWeight: 0.7,
    dropPath: true,
    recompute: false,
    precision: 'f32',
    clip: 0.5,
    anchors: 'sampled',
    maxElements: 2 ** 20,
    ...change,
  };
}

/** The views of each of its micro-batches. */
export function smallViews(graph: Graph, { batches }: StepShape): ViewTensors[] {
  return batches.map(() => [
    graph.input('views.global', [2 * BATCH, 1, 28, 28]),
    graph.input('views.local', [2 * BATCH, 1, 14, 14]),
  ]);
}

type Set = (tensor: Tensor, values: ArrayLike<number>) => void;

/** Gives everything that the step reads, but scalars, random values. */
export function fill(step: TrainStep, views: readonly ViewTensors[], set: Set): void {
  const random = new Random(11);
  for (const tensor of views.flat()) if (tensor) set(tensor, draw(tensor, random));
  writeState(step, set, random);
  for (const batch of step.batches) writeBatch(batch, set, random);
}

/** Values of the scalars; others are 0. */
export const SCALARS: Readonly<Record<string, number>> = {
  lr: 1e-3,
  weight_decay: 0.1,
  correction1: 1 - 0.9 ** 5,
  correction2: 1 - 0.999 ** 5,
  teacher_rate: 0.01,
  student_temp: 0.1,
  teacher_temp: 0.04,
  seed: 3,
  step: 5,
};

function writeState(step: TrainStep, set: Set, random: Random): void {
  for (const [name, tensor] of [...step.student, ...step.teacher]) {
    const scale = /norm.*weight$/.test(name) ? 1 : 0;
    set(
      tensor,
      draw(tensor, random).map((value) => scale + 0.15 * value),
    );
  }
  for (const moments of step.moments)
    for (const tensor of moments.values())
      set(
        tensor,
        draw({ ...tensor, fill: 'uniform' }, random).map((value) => 1e-3 * value),
      );
  for (const { rows } of Object.values(step.memory)) set(rows, draw({ shape: rows.shape, fill: 'unit-rows' }, random));
  set(step.memory.cls.pointer, [20]);
  set(step.memory.patch.pointer, [0]);
}

function writeBatch({ inputs }: MicroBatch, set: Set, random: Random): void {
  const masks = Uint8Array.from({ length: 2 * BATCH * PATCHES }, () => (random.uniform() < 0.2 ? 1 : 0));
  const patchRows = Array.from({ length: BATCH }, () => random.below(PATCHES));
  const lists = maskInputs({
    masks,
    patchRows,
    batch: BATCH,
    patches: PATCHES,
    maskedPatches: MICRO_BATCH.maskedPatches,
    layout: 'train',
  });
  for (const [tensor, values] of maskWrites(inputs, lists)) set(tensor, values);
  if (inputs.keep)
    set(
      inputs.keep,
      Array.from({ length: 4 * 4 * BATCH }, () => (random.uniform() < 0.8 ? 1.25 : 0)),
    );
}
