import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { defaultTarget } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import type { Attributes, Op } from '../src/graph/op.js';
import { f32, type Spec } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { attention, attentionBackward } from '../src/ops/attention.js';
import { sopProbabilities, sopProbabilitiesBackward } from '../src/ops/sop_probabilities.js';
import { type Plan, plan } from '../src/plan/plan.js';
import { dispatchFlops } from '../src/plan/report.js';
import { debugStep } from '../src/sop/debug-step.js';
import { traceTraining } from '../src/sop/training.js';
import { fixture } from './fixtures-support.js';

/** Activation checkpointing (`train.checkpoint_blocks`): the same bits, less memory. */
const gpu = await openNodeGpu();

test('a step whose blocks are computed again has the same bits', async () => {
  const name = 'step-multicrop.input';
  const { tensors, metadata } = fixture(name);
  const kept = await debugStep(gpu, tensors, metadata, name);
  const again = await debugStep(gpu, tensors, new Map([...metadata, ['train.checkpoint_blocks', 'true']]), name);
  assert.is(again.length, kept.length);
  kept.forEach((array, i) => {
    const [a, b] = [array, again[i]!].map(({ data }) => new Uint32Array((data as Float32Array).buffer));
    assert.ok(
      a!.every((word, e) => word === b![e]),
      `${array.name} differs`,
    );
  });
});

test('activations of a deep model take a fraction of the memory', async () => {
  const activations = async (checkpoint: boolean): Promise<number> => {
    const config = await configFrom({
      preset: 'vit-s',
      set: [`train.checkpoint_blocks=${checkpoint}`, 'train.batch_size=4'],
    });
    const data = { channels: 3 as const, mean: [0, 0, 0], std: [1, 1, 1], residentBytes: null };
    const { plan } = traceTraining(config, data, defaultTarget);
    return plan.buffers.reduce((sum, { group, bytes }) => sum + (group === 'activations' ? bytes : 0), 0);
  };
  assert.ok((await activations(true)) < 0.35 * (await activations(false)));
});

test('what is computed again is no work of the result', async () => {
  const planned = async (checkpoint: boolean) => {
    const set = [`train.checkpoint_blocks=${checkpoint}`, 'model.depth=2', 'train.batch_size=4'];
    const config = await configFrom({ preset: 'vit-s', set });
    const data = { channels: 3 as const, mean: [0, 0, 0], std: [1, 1, 1], residentBytes: null };
    return traceTraining(config, data, defaultTarget).plan;
  };
  const flops = ({ costs }: Plan): number => costs.reduce((sum, cost) => sum + cost.flops, 0);
  const spent = ({ launches }: Plan): number => launches.reduce((sum, launch) => sum + launch.flops, 0);
  const [again, kept] = [await planned(true), await planned(false)];
  assert.is(flops(again), flops(kept));
  assert.ok(spent(again) > spent(kept));
});

test('scores and logits that a backward kernel computes anew are none either', () => {
  const flops = <A extends Attributes>(op: Op<A>, inputs: readonly Spec[], attrs: A): number =>
    op.cost?.(inputs, op.infer(inputs, attrs), attrs).flops ?? 0;
  // So wide that all else is below a hundredth.
  const heads = { heads: 1, segments: [{ count: 1, length: 100 }] };
  const [qkv, out, lse] = [f32(100, 3000), f32(100, 1000), f32(100, 1)];
  const forward = flops(attention, [qkv], heads);
  const backward = flops(attentionBackward, [qkv, out, lse, out], heads);
  assert.ok(Math.abs(backward / forward - 2) < 0.01, `${backward / forward}`);
  const sop = { members: 5, temperature: { name: 'temperature', dtype: 'f32', slot: 0 } } as const;
  const [u, d, s, stats, p] = [f32(100, 1000), f32(50, 1000), f32(50), f32(100, 2), f32(100, 10)];
  const logits = flops(sopProbabilities, [u, d, s], sop);
  const weighted = flops(sopProbabilitiesBackward, [u, d, s, stats, p, p], sop);
  assert.is(weighted, logits);
});

test('the work of a node is divided among its dispatches, and none of it is lost', () => {
  const graph = new Graph();
  const [qkv, out, lse] = [graph.input('qkv', [100, 192]), graph.input('out', [100, 64]), graph.input('lse', [100, 1])];
  graph.add(attentionBackward, [qkv, out, lse, out], { heads: 1, segments: [{ count: 1, length: 100 }] });
  const planned = plan(graph, defaultTarget);
  const [query = 0, key = 0] = dispatchFlops(planned);
  // Of queries three products are computed, of keys and values four.
  assert.ok(Math.abs(key / query - 4 / 3) < 1e-9, `${query}, ${key}`);
  assert.ok(Math.abs(query + key - planned.costs[0]!.flops) < 1);
});

test.run();
