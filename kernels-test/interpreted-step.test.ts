import { test } from 'uvu';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { maskInputs } from '../src/sop/masks.js';
import {
  fetchedTensors,
  type MicroBatch,
  type StepShape,
  type TrainStep,
  traceTrainStep,
} from '../src/sop/train-step.js';
import { assertClose } from './compare.js';
import { Random } from './declare.js';
import { opTests } from './index.js';
import { Interpreter } from './interpreter.js';
import { draw, toElements } from './traced.js';

/**
 * The whole traced step on the device against the float64 interpreter of the same graph: anchors drawn on the device, two
 * micro-batches, local views, dropped branches. Where fixtures test the method, this tests every node of it at once.
 */
const gpu = await openNodeGpu();
const BATCH = 3;
const PATCHES = 16;
const MICRO_BATCH = { images: BATCH, maskedPatches: 30, teacherPatches: 30 + BATCH };

function shapeOf(globalFeature: 'cls' | 'avg-patch'): StepShape {
  return {
    network: {
      vit: { width: 16, depth: 2, heads: 2, mlpRatio: 2, patch: 7, channels: 1, imageSize: 28, initStd: 0.02 },
      head: { hidden: 20, layers: 3, out: 12 },
      globalFeature,
    },
    batches: [MICRO_BATCH, MICRO_BATCH],
    prototypes: { contributions: 'soft', smoothing: 0.1, search: 'all' },
    cls: { memory: 23, anchors: 7, neighbours: 3, tasks: 2 },
    patch: { memory: 17, anchors: 9, neighbours: 0, tasks: 1 },
    clsWeight: 1,
    patchWeight: 0.7,
    dropPath: true,
    recompute: false,
    clip: 0.5,
    anchors: 'sampled',
    maxElements: 2 ** 20,
  };
}

for (const globalFeature of ['cls', 'avg-patch'] as const) {
  test(`step with ${globalFeature}, two micro-batches`, async () => {
    const graph = new Graph();
    const views = [0, 1].map(
      () =>
        [
          graph.input('views.global', [2 * BATCH, 1, 28, 28]),
          graph.input('views.local', [2 * BATCH, 1, 14, 14]),
        ] as const,
    );
    const shape = shapeOf(globalFeature);
    const step = traceTrainStep(graph, shape, [views[0]!, views[1]!]);
    const watched = [...fetchedTensors(step), ...step.gradients.values()];
    const replay = new Replay(await compile(gpu, plan(graph, gpu.target, watched)));
    const interpreter = new Interpreter(graph, opTests);
    const random = new Random(11);
    const set = (tensor: Tensor, values: ArrayLike<number>): void => {
      const elements = toElements(tensor, values);
      replay.write(tensor, elements);
      interpreter.set(tensor, elements);
    };
    for (const [global, local] of views) {
      set(global, draw(global, random));
      set(local, draw(local, random));
    }
    writeState(step, set, random);
    for (const batch of step.batches) writeBatch(batch, set, random);
    writeScalars(graph, replay, interpreter);

    await replay.run();
    interpreter.run();
    const state = [
      ...step.student.values(),
      ...step.teacher.values(),
      step.memory.cls.rows,
      step.memory.cls.pointer,
      step.memory.patch.rows,
    ];
    for (const tensor of [...watched, ...state]) {
      const [got, expected] = [Float64Array.from(await replay.read(tensor)), interpreter.get(tensor)];
      // A key bias has a true gradient of zero, of which AdamW makes a step of up to lr in any direction: left out.
      const [first, end] = keyBiases(tensor);
      got.set(expected.subarray(first, end), first);
      assertClose(tensor.label, tensor, got, expected, TOLERANCE);
    }
    replay.destroy();
  });
}

test.run();

/** Errors of f32 through some 60 nodes, each a few units of 2^-24 of its RMS; logits are amplified by 1 / 0.04 = 25. */
const TOLERANCE = 5e-5;

/** The middle third of a qkv bias that AdamW or the teacher's average has changed; nothing of other tensors. */
function keyBiases({ label, shape: [length = 0] }: Tensor): [first: number, end: number] {
  return /^(student|teacher)\..*qkv\.bias$/.test(label) ? [length / 3, (2 * length) / 3] : [0, 0];
}

function writeState(step: TrainStep, set: (tensor: Tensor, values: ArrayLike<number>) => void, random: Random): void {
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

function writeBatch(
  { inputs }: MicroBatch,
  set: (tensor: Tensor, values: ArrayLike<number>) => void,
  random: Random,
): void {
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
  set(inputs.mask, lists.mask);
  set(inputs.maskedRows, lists.maskedRows);
  set(inputs.teacherRows, lists.teacherRows);
  set(inputs.patchPairs.partners, lists.partners);
  set(inputs.patchPairs.weights, lists.weights);
  set(inputs.insertedRows, lists.insertedRows);
  if (inputs.keep)
    set(
      inputs.keep,
      Array.from({ length: 4 * 4 * BATCH }, () => (random.uniform() < 0.8 ? 1.25 : 0)),
    );
}

function writeScalars(graph: Graph, replay: Replay, interpreter: Interpreter): void {
  const values: Record<string, number> = {
    lr: 1e-3,
    weight_decay: 0.1,
    correction1: 1 - 0.9 ** 5,
    correction2: 1 - 0.999 ** 5,
    momentum: 0.99,
    student_temp: 0.1,
    teacher_temp: 0.04,
    seed: 3,
    step: 5,
  };
  for (const scalar of graph.scalars) {
    const value = values[scalar.name] ?? 0;
    replay.setScalar(scalar, value);
    interpreter.scalars.set(scalar.name, scalar.dtype === 'f32' ? Math.fround(value) : value);
  }
}
