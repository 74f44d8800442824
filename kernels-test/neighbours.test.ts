import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import { GraphError } from '../src/graph/op.js';
import { openNodeGpu } from '../src/node.js';
import { neighbours } from '../src/ops/neighbours.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { Random } from './declare.js';

const gpu = await openNodeGpu({ quiet: true });

/** Every pair of a memory is scored from both ends, in lanes and columns of its own. */
for (const target of [gpu.target, defaultTarget]) {
  test(`a pair of rows scores the same bits from both ends, planned for ${target.name}`, async () => {
    const [rows, width, k] = [17, 67, 16];
    const random = new Random(11);
    const graph = new Graph();
    const memory = graph.input('memory', [rows, width]);
    const anchors = graph.input('anchors', [rows], 'u32');
    const [index, score] = graph.pair(neighbours, [memory, anchors], { k, search: 'all' });
    const replay = new Replay(await compile(gpu, plan(graph, target, [index, score])));
    try {
      replay.write(
        memory,
        Float32Array.from({ length: rows * width }, () => random.normal()),
      );
      const order = Uint32Array.from({ length: rows }, (_, i) => (5 * i) % rows);
      replay.write(anchors, order);
      await replay.run();
      const [found, scores] = [await replay.read(index), await replay.read(score)];
      const scoreOf = new Map<string, number>();
      order.forEach((anchor, i) => {
        for (let j = 0; j < k; j++) scoreOf.set(`${anchor},${found[i * k + j]}`, scores[i * k + j] ?? Number.NaN);
      });
      for (let a = 0; a < rows; a++) {
        for (let b = 0; b < a; b++) {
          const [there, back] = [scoreOf.get(`${a},${b}`), scoreOf.get(`${b},${a}`)];
          assert.type(there, 'number', `${a} has found ${b}`);
          assert.is(there, back, `rows ${a} and ${b}`);
        }
      }
    } finally {
      replay.destroy();
    }
  });
}

test('refuses more neighbours than there are rows to search, or than a list holds', () => {
  const specs = (n: number, count: number) =>
    [
      { shape: [n, 4], dtype: 'f32' },
      { shape: [count], dtype: 'u32' },
    ] as const;
  const refused = (n: number, count: number, k: number, search: 'all' | 'non-anchors') =>
    assert.throws(
      () => neighbours.infer(specs(n, count), { k, search }),
      (error: unknown) => error instanceof GraphError,
    );
  refused(8, 2, 8, 'all');
  refused(8, 2, 7, 'non-anchors');
  refused(100, 2, 17, 'all');
  refused(8, 2, 0, 'all');
  assert.equal(
    neighbours.infer(specs(8, 2), { k: 7, search: 'all' }).map(({ shape }) => shape),
    [
      [2, 7],
      [2, 7],
    ],
  );
});

test('a discrete GPU is kept busy by four times the workgroups of an integrated one', () => {
  const groups = (integrated: boolean, anchors: number): number => {
    const graph = new Graph();
    const inputs = [graph.input('memory', [65_536, 64]), graph.input('anchors', [anchors], 'u32')];
    graph.add(neighbours, inputs, { k: 8, search: 'all' });
    const { launches } = plan(graph, { ...defaultTarget, integrated });
    const [x, y, z] = launches.find(({ kernel }) => kernel.label === 'neighbours.search')!.workgroups;
    return x * y * z;
  };
  assert.equal([groups(true, 64), groups(false, 64)], [64, 256]);
  assert.equal([groups(true, 128), groups(false, 128)], [64, 256]);
});

test.run();
