import { test } from 'uvu';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { fetchedTensors } from '../src/sop/step-result.js';
import { traceTrainStep } from '../src/sop/train-step.js';
import { assertClose } from './compare.js';
import { opTests } from './index.js';
import { Interpreter } from './interpreter.js';
import { fill, SCALARS, smallStep, smallViews } from './step-support.js';
import { toElements } from './traced.js';

/**
 * The whole traced step on the device against the float64 interpreter of the same graph: anchors drawn on the device, two
 * micro-batches, local views, dropped branches. Where fixtures test the method, this tests every node of it at once.
 */
const gpu = await openNodeGpu();
for (const [globalFeature, listed] of [
  ['cls', false],
  ['avg-patch', true],
] as const) {
  test(`step with ${globalFeature}, ${listed ? 'low-energy anchors, lists of neighbours, ' : ''}two micro-batches`, async () => {
    const graph = new Graph();
    const shape = smallStep({
      network: { ...smallStep().network, globalFeature },
      cls: { ...smallStep().cls, listed },
      anchors: listed ? 'low-energy' : 'sampled',
    });
    const views = smallViews(graph, shape);
    const step = traceTrainStep(graph, shape, views);
    const watched = [...fetchedTensors(step), ...step.gradients.values()];
    const replay = new Replay(await compile(gpu, plan(graph, gpu.target, watched)));
    const interpreter = new Interpreter(graph, opTests);
    const set = (tensor: Tensor, values: ArrayLike<number>): void => {
      const elements = toElements(tensor, values);
      replay.write(tensor, elements);
      interpreter.set(tensor, elements);
    };
    fill(step, views, set);
    writeScalars(graph, replay, interpreter);

    await replay.run();
    interpreter.run();
    const state = [
      ...step.student.values(),
      ...step.teacher.values(),
      step.memory.cls.rows,
      step.memory.cls.pointer,
      step.memory.patch.rows,
      ...(step.memory.cls.lists ? [step.memory.cls.lists.index, step.memory.cls.lists.length] : []),
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

function writeScalars(graph: Graph, replay: Replay, interpreter: Interpreter): void {
  for (const scalar of graph.scalars) {
    const value = SCALARS[scalar.name] ?? 0;
    replay.setScalar(scalar, value);
    interpreter.scalars.set(scalar.name, scalar.dtype === 'f32' ? Math.fround(value) : value);
  }
}
