import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import type { StepShape, TrainStep } from '../src/sop/step-shape.js';
import { traceTrainStep } from '../src/sop/train-step.js';
import { compare } from './compare.js';
import { opTests } from './index.js';
import { Interpreter } from './interpreter.js';
import { fill, SCALARS, smallStep, smallViews } from './step-support.js';

/** Options of the method that no fixture holds against PyTorch, by what they promise, in float64 and without a device. */
function run(change: Partial<StepShape>, scalars: Readonly<Record<string, number>> = {}) {
  const graph = new Graph();
  const shape = smallStep(change);
  const views = smallViews(graph, shape);
  const step = traceTrainStep(graph, shape, views);
  const interpreter = new Interpreter(graph, opTests);
  fill(step, views, (tensor, values) => interpreter.set(tensor, values));
  for (const { name } of graph.scalars) interpreter.scalars.set(name, scalars[name] ?? SCALARS[name] ?? 0);
  interpreter.run();
  return { step, get: (tensor: Tensor): Float64Array => interpreter.get(tensor) };
}

/** Anchors of the first [CLS] task at optimizer step `index`. */
function anchors(selection: StepShape['anchors'], index: number): number[] {
  const { step, get } = run({ anchors: selection }, { step: index });
  return [...get(step.batches[0].cls[0]!.prototypes.anchors)];
}

const rows = (list: readonly number[]): string => [...list].sort((a, b) => a - b).join();

test('uniform anchors are drawn anew at each step, and differ within it', () => {
  const [first, second] = [anchors('sampled', 1), anchors('sampled', 2)];
  assert.is(new Set(first).size, first.length);
  assert.is.not(rows(first), rows(second));
  const { step, get } = run({});
  const [a, b] = step.batches[0].cls.map(({ prototypes }) => [...get(prototypes.anchors)]);
  assert.is.not(rows(a!), rows(b!), 'two tasks draw alike');
});

test('fixed anchors stay for good (Table C.7)', () => {
  assert.equal(anchors('fixed', 1), anchors('fixed', 2));
});

test('low-energy anchors are different rows, drawn anew at each step', () => {
  const [first, second] = [anchors('low-energy', 1), anchors('low-energy', 2)];
  assert.is(new Set(first).size, 7);
  assert.is.not(rows(first), rows(second));
  assert.is.not(rows(first), rows(anchors('sampled', 1)));
});

test('either loss runs alone, and together they are their weighted sum (Table 7)', () => {
  const gradients = ({ step, get }: { step: TrainStep; get(tensor: Tensor): Float64Array }) =>
    [...step.gradients].map(([name, tensor]) => [name, get(tensor)] as const);
  const [both, cls, patch] = [run({}), run({ patchWeight: 0 }), run({ clsWeight: 0, patchWeight: 0.7 })].map(gradients);
  both!.forEach(([name, sum], i) => {
    const parts = sum.map((_, e) => cls![i]![1][e]! + patch![i]![1][e]!);
    // Key biases have a gradient of 0: what is there is rounding.
    const third = name.endsWith('qkv.bias') ? sum.length / 3 : 0;
    parts.set(sum.subarray(third, 2 * third), third);
    assert.ok(compare(parts, sum).error < 1e-10, name);
  });
  // Both are reported even where their weight is 0.
  const { step, get } = run({ clsWeight: 0 });
  assert.ok(get(step.loss.cls)[0]! > 0);
  assert.ok(Math.abs(get(step.loss.total)[0]! - 0.7 * get(step.loss.patch)[0]!) < 1e-12);
});

test.run();
