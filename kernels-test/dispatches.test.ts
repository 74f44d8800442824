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

const shapes = {
  matmul: [200, 40, 70],
  attention: [3, 70, 32, 2],
  sop_probabilities: [150, 5, 3, 20],
  neighbours: [200, 60, 16, 4],
};
for (const [name, shape] of Object.entries(shapes)) {
  test(`${name} in many dispatches gives what it gives in one`, async () => {
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

test('of the gradient of weights from very many rows not even a row of tiles is too much for a dispatch', () => {
  const product = tests.find(({ op, bench }) => op.name === 'matmul' && bench?.form === 'TN');
  const { graph } = trace(product!, product!.bench!.sized(384, 200_000, 1536));
  const { launches } = plan(graph, { ...defaultTarget, maxBindingBytes: 2 ** 31, maxBufferBytes: 2 ** 31 });
  const worst = Math.max(...launches.map(({ flops }) => flops));
  assert.ok(worst <= 2e10 && worst > 1e10, `${worst}`);
});

test('more rows of tiles than a dispatch may have workgroups in a direction come in several', async () => {
  const product = tests.find(({ op, bench }) => op.name === 'matmul' && bench?.form === 'NN');
  const testCase = product!.bench!.sized(200, 40, 70);
  const narrow = { ...gpu.target, maxWorkgroupsPerDimension: 4 };
  const count = (on: Target): number => plan(trace(product!, testCase).graph, on).launches.length;
  assert.ok(count(narrow) > count(gpu.target));
  await checkOnDevice(gpu, product!, testCase, tests, narrow);
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
