import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import { bytes } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { sopProbabilities, sopProbabilitiesBackward } from '../src/ops/sop_probabilities.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import type { AnyOpTest } from './interpreter.js';
import { sopProbabilitiesTests } from './sop_probabilities.js';

test('backward in several spans of support embeddings, where one binding cannot hold the weights of all', async () => {
  const gpu = await openNodeGpu();
  const op = sopProbabilitiesTests[0] as unknown as AnyOpTest;
  const testCase = op.cases.find(({ inputs }) => inputs[1]?.shape[0] === 100);
  assert.ok(testCase);
  const target = { ...gpu.target, maxBindingBytes: 8192, maxBufferBytes: 8192 };
  await checkOnDevice(gpu, op, testCase, opTests, target);
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
