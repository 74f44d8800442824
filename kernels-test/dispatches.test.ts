import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import type { Attributes } from '../src/graph/op.js';
import { openNodeGpu } from '../src/node.js';
import { dispatchParts } from '../src/ops/dispatches.js';
import { plan } from '../src/plan/plan.js';
import { splitSubmits } from '../src/plan/submits.js';
import { traceSearch } from '../src/sop/search-choice.js';
import type { OpTest } from './declare.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import { trace } from './traced.js';

/** Drivers of GPUs end a dispatch that seems to hang: large work comes in several. */
const gpu = await openNodeGpu({ quiet: true });
const tests = opTests as unknown as OpTest<Attributes>[];
const bounded = (maxDispatchFlops: number) => ({ ...gpu.target, maxDispatchFlops });

test('parts cover all workgroups once, alike in size, none beyond the bound unless it is a single one', () => {
  for (const count of [1, 2, 7, 64, 1000, 65_537]) {
    for (const flops of [0, 1, 99, 100, 101, 12_345, 1e9]) {
      const parts = dispatchParts(bounded(100), count, flops);
      const told = `${count} workgroups of ${flops} in all: ${JSON.stringify(parts.slice(0, 3))}`;
      let next = 0;
      for (const { first, count: own } of parts) {
        assert.is(first, next, told);
        assert.ok(own === 1 || (own * flops) / count <= 100, told);
        next += own;
      }
      assert.is(next, count, told);
    }
  }
});

const shapes = [
  ['matmul', [200, 40, 70]],
  ['matmul', [9, 700, 33, 2]],
  ['attention', [3, 70, 32, 2]],
  ['sop_probabilities', [150, 50, 3, 20]],
  ['neighbours', [200, 60, 16, 4]],
  ['stale_neighbours', [5, 200, 16, 4, 60]],
  ['select_rows', [67, 5, 31]],
] as const;
for (const [name, shape] of shapes) {
  test(`${name} ${shape.join('x')} in many dispatches gives what it gives in one`, async () => {
    for (const opTest of tests.filter(({ op, bench }) => op.name === name && bench)) {
      const testCase = opTest.bench!.sized(...shape);
      const launches = (on: Target) => plan(trace(opTest, testCase).graph, on).launches.length;
      assert.ok(launches(bounded(1)) > launches(gpu.target), opTest.bench?.form);
      await checkOnDevice(gpu, opTest, testCase, tests, bounded(1));
    }
  });
}

test('at a bound of 2e10 a product of 12608 x 384 x 1536 stays whole, one of twice the rows does not', async () => {
  const product = tests.find(({ op, bench }) => op.name === 'matmul' && bench?.form === 'NT');
  const dispatches = (rows: number): number => {
    const testCase = product?.bench?.sized(rows, 384, 1536);
    const { graph } = trace(product!, testCase!);
    const { launches } = plan(graph, { ...gpu.target, maxBindingBytes: 2 ** 31 });
    return launches.filter(({ node, kernel }) => node.index === 0 && kernel.label.startsWith('matmul')).length;
  };
  assert.equal([12_608, 25_216].map(dispatches), [1, 2]);
});

/** GPUs bind 2 GiB at once, or twice as much. */
const large = { ...defaultTarget, maxBindingBytes: 2 ** 32 - 4, maxBufferBytes: 2 ** 34 };

for (const [name, shape, form] of [
  // Gradients of weights, whose inner axis is all rows of a batch: not even a row of tiles, or one tile, is too much.
  ['matmul', [384, 200_000, 1536], 'TN'],
  ['matmul', [64, 8_000_000, 64], 'TN'],
  ['matmul', [512, 512, 512, 1000], 'NN'],
  ['attention', [1, 65_537, 64, 1]],
  ['sop_probabilities', [64, 131_072, 9, 256]],
  ['neighbours', [65_536, 2 ** 21, 256, 8]],
  ['stale_neighbours', [512, 2 ** 21, 256, 8, 4096]],
  ['select_rows', [2 ** 18, 8]],
] as const) {
  test(`${name} ${shape.join('x')} comes in dispatches of 100 ms at most`, () => {
    const found = tests.find(({ op, bench }) => op.name === name && bench && (!form || bench.form === form));
    for (const target of [large, { ...large, subgroupSize: 32 }]) {
      const { graph } = trace(found!, found!.bench!.sized(...shape));
      const work = plan(graph, target).launches.map(({ flops }) => flops);
      const worst = Math.max(...work);
      assert.ok(worst <= 2e10 && worst > 5e9, `${worst} of ${work.length}`);
    }
  });
}

test('more rows of tiles than a dispatch may have workgroups in a direction come in several', async () => {
  const product = tests.find(({ op, bench }) => op.name === 'matmul' && bench?.form === 'NN');
  const testCase = product!.bench!.sized(200, 40, 70);
  const narrow = { ...gpu.target, maxWorkgroupsPerDimension: 4 };
  const count = (on: Target): number => plan(trace(product!, testCase).graph, on).launches.length;
  assert.ok(count(narrow) > count(gpu.target));
  await checkOnDevice(gpu, product!, testCase, tests, narrow);
});

test('a sequence of more workgroups than a dispatch may have in a direction is folded', () => {
  const found = tests.find(({ op }) => op.name === 'residual');
  const { graph } = trace(found!, found!.bench!.sized(2, 262_145, 384));
  const [first] = plan(graph, large).launches;
  assert.equal(first?.workgroups, [56_174, 2, 7]);
});

test('submits end between dispatches, before 100 ms of work, and count what depends on the device with all that it may be', () => {
  for (const listed of [false, true]) {
    const task = { memory: 65_536, anchors: 4096, neighbours: 8, tasks: 4, listed };
    const { graph } = traceSearch(task, 256, [64]);
    const { launches } = plan(graph, { ...defaultTarget, maxBindingBytes: 2 ** 31, maxBufferBytes: 2 ** 31 });
    const flops = (some: readonly { launch: { flops: number } }[]): number =>
      some.reduce((sum, { launch }) => sum + launch.flops, 0);
    const submits = splitSubmits(
      launches.map((launch) => ({ launch })),
      defaultTarget.maxDispatchFlops,
    );
    assert.equal(
      submits.flat().map(({ launch }) => launch),
      launches,
    );
    // Every drawn row is compared with every row of the memory, at most.
    const most = 2 * 4 * 4096 * 65_536 * 256;
    assert.ok(
      flops(submits.flat()) >= most && flops(submits.flat()) < 1.1 * most,
      `${listed}: ${flops(submits.flat())}`,
    );
    for (const submit of submits) assert.ok(flops(submit) <= 2e10, `${listed}: ${flops(submit)}`);
  }
});

test.run();
