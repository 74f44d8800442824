import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import { bytes } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { sopProbabilities, sopProbabilitiesBackward } from '../src/ops/sop_probabilities.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { compare } from './compare.js';
import { EPSILON, Random } from './declare.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import { type AnyOpTest, Interpreter } from './interpreter.js';
import { sopProbabilitiesTests } from './sop_probabilities.js';

test('backward in several spans of support embeddings, where one binding cannot hold the weights of all', async () => {
  const gpu = await openNodeGpu();
  const op = sopProbabilitiesTests[0] as unknown as AnyOpTest;
  const testCase = op.cases.find(({ inputs }) => inputs[1]?.shape[0] === 100);
  assert.ok(testCase);
  const target = { ...gpu.target, maxBindingBytes: 8192, maxBufferBytes: 8192 };
  await checkOnDevice(gpu, op, testCase, opTests, target);
});

test('a gradient that is nearly alike for all SOPs loses no digits to what they have in common', async () => {
  const [rows, sops, members, depth] = [19, 23, 3, 12];
  const random = new Random(7);
  const common = Array.from({ length: depth }, () => random.normal());
  // Embeddings whose cosines are about 0.9, as early in training.
  const alike = (count: number): Float32Array<ArrayBuffer> => {
    const all = new Float32Array(count * depth);
    for (let row = 0; row < count; row++) {
      const values = common.map((value) => value + 0.33 * random.normal());
      const norm = Math.hypot(...values);
      all.set(
        values.map((value) => value / norm),
        row * depth,
      );
    }
    return all;
  };
  const graph = new Graph();
  const [u, d] = [graph.input('u', [rows, depth]), graph.input('d', [sops * members, depth])];
  const [s, dp] = [graph.input('s', [sops * members]), graph.input('dp', [rows, sops])];
  const attrs = { members, temperature: graph.scalar('temperature') };
  const [p, stats] = graph.pair(sopProbabilities, [u, d, s], attrs);
  const du = graph.one(sopProbabilitiesBackward, [u, d, s, stats, p, dp], attrs);
  const inputs = [
    [u, alike(rows)],
    [d, alike(sops * members)],
    [s, Float32Array.from({ length: sops * members }, () => 0.8 + 0.2 * random.uniform())],
    [dp, Float32Array.from({ length: rows * sops }, () => -1 + 1e-3 * random.normal())],
  ] as const;

  const interpreter = new Interpreter(graph, opTests);
  interpreter.scalars.set('temperature', 0.125);
  for (const [tensor, values] of inputs) interpreter.set(tensor, values);
  interpreter.run();
  const gpu = await openNodeGpu();
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [du])), [du]);
  try {
    replay.setScalar(attrs.temperature, 0.125);
    for (const [tensor, values] of inputs) replay.write(tensor, values);
    const [got] = await replay.run();
    assert.ok(got);
    // An exponential is off by a few roundings of a logit, which is at most 8; elements are up to five times the RMS. A mean of
    // dP that is off by one rounding of its own, 6e-8, would weigh on what all embeddings have in common: 1e-2 of the RMS.
    const { error } = compare(got, interpreter.get(du));
    assert.ok(error <= 5 * 8 * EPSILON * 8, `${error} of the RMS`);
  } finally {
    replay.destroy();
    await gpu.close();
  }
});

test('scratch at the main setting is far below the logits (108 MiB)', () => {
  const [rows, sops, members, depth] = [768, 4096, 9, 256];
  const graph = new Graph();
  const u = graph.input('u', [rows, depth]);
  const d = graph.input('d', [sops * members, depth]);
  const s = graph.input('s', [sops * members]);
  const attrs = { members, temperature: graph.scalar('temperature') };
  const [p, stats] = graph.add(sopProbabilities, [u, d, s], attrs);
  assert.ok(p && stats);
  const dp = graph.input('dp', p.shape);
  const forward = { inputs: [u, d, s], outputs: [p, stats], attrs, target: defaultTarget };
  const backward = { inputs: [u, d, s, stats, p, dp], outputs: [u], attrs, target: defaultTarget };
  for (const scratch of [sopProbabilities.scratch?.(forward), sopProbabilitiesBackward.scratch?.(backward)]) {
    const total = (scratch ?? []).reduce((sum, spec) => sum + bytes(spec), bytes(p));
    assert.ok(total > bytes(p) && total < 40 * 2 ** 20, `${total / 2 ** 20} MiB`);
  }
});

test.run();
