import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { crossEntropy, crossEntropyBackward } from '../src/ops/cross_entropy.js';
import { NO_ROW } from '../src/ops/gather_rows.js';
import { packNorms } from '../src/ops/pack_norms.js';
import { updateAdamw } from '../src/ops/update_adamw.js';
import { updateEma } from '../src/ops/update_ema.js';
import { updateFifo } from '../src/ops/update_fifo.js';
import { updateFlag } from '../src/ops/update_flag.js';
import { packBlocks, packTable } from '../src/optim/pack-table.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { type Elements, Replay } from '../src/plan/replay.js';

/** One non-finite number anywhere must reach the flag, and the flag must keep everything as it was. */
const gpu = await openNodeGpu({ quiet: true });
const bad = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

const ones = (count: number, value = 1): Float32Array<ArrayBuffer> => new Float32Array(count).fill(value);
const bitsOf = (data: Elements): string => new Uint32Array(data.buffer).join();

/** Optimizer, teacher and memory behind one flag, as in a training step. */
async function makeOptimizer() {
  const graph = new Graph();
  const sizes = [1, 197, 4100, 64];
  const members = (name: string, state: boolean): Tensor[] =>
    sizes.map((size, i) => (state ? graph.state(`${name}.${i}`, [size]) : graph.parameter(`${name}.${i}`, [size])));
  const one = (name: string, list: Tensor[]) => {
    const [pack] = graph.pack(name, list, 2 ** 20);
    if (!pack) throw new RangeError('one pack expected');
    return pack;
  };
  const parameters = one('student', members('student', false));
  const [gradients, moment1, moment2, teacher] = (['gradient', 'moment1', 'moment2', 'teacher'] as const).map((name) =>
    one(name, members(name, true)),
  );
  const loss = graph.input('loss', [1]);
  const { blocks, first } = packBlocks(graph, gradients!);
  const squares = graph.one(packNorms, [gradients!.flat, blocks, first], {});
  const flag = graph.state('flag', [1], 'u32');
  graph.add(updateFlag, [flag, loss, squares], {});
  const table = packTable(graph, parameters, (tensor) => tensor.shape[0] !== 1);
  const numbers = {
    lr: graph.scalar('lr'),
    weightDecay: graph.scalar('weight_decay'),
    correction1: graph.scalar('c1'),
    correction2: graph.scalar('c2'),
  };
  const flats = [parameters, gradients, moment1, moment2].map((pack) => pack!.flat);
  const norms = graph.one(updateAdamw, [flag, ...flats, squares, table], {
    ...numbers,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    clip: 3,
  });
  graph.add(updateEma, [flag, teacher!.flat, parameters.flat], { rate: numbers.lr });
  const [memory, pointer] = [graph.state('memory', [7, 3]), graph.state('pointer', [1], 'u32')];
  graph.add(updateFifo, [flag, memory, pointer, graph.constant('rows', [2, 3], ones(6))], {});
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [flag, norms, squares])), [
    flag,
    norms,
    squares,
  ]);
  for (const scalar of Object.values(numbers)) replay.setScalar(scalar, 0.5);
  replay.write(loss, ones(1));
  for (const [pack, value] of [
    [parameters, 2],
    [gradients!, 0.01],
    [moment1!, 0.1],
    [moment2!, 0.1],
    [teacher!, 3],
  ] as const) {
    for (const member of pack.members) replay.write(member, ones(member.shape[0]!, value));
  }
  const kept = [parameters.flat, moment1!.flat, moment2!.flat, teacher!.flat, memory, pointer];
  const state = async (): Promise<string[]> =>
    Promise.all(kept.map(async (tensor) => bitsOf(await replay.read(tensor))));
  /** A step of which the flag is down before it. */
  const run = (): Promise<Elements[]> => {
    replay.write(flag, new Uint32Array(1));
    return replay.run();
  };
  return { replay, run, loss, gradients: gradients!, parameters, squares, state };
}

const { replay, run, loss, gradients, parameters, state } = await makeOptimizer();
const before = await state();

for (const [number, member] of gradients.members.entries()) {
  test(`a non-finite gradient of tensor ${number} stops the step and is named`, async () => {
    const size = member.shape[0] ?? 0;
    for (const place of new Set([0, size >> 1, size - 1])) {
      for (const value of bad) {
        const data = ones(size, 0.01);
        data[place] = value;
        replay.write(member, data);
        const [flag, norms, squares] = await run();
        assert.is(flag?.[0], 1 + 1 + number, `${value} at ${place}`);
        assert.equal(
          [...(squares ?? [])].map(Number.isNaN),
          gradients.members.map((_, i) => i === number),
          'only its own norm is NaN',
        );
        assert.is(norms?.[1], 0, 'there is no update');
        assert.ok((norms?.[0] ?? 0) > 0);
      }
    }
    assert.equal(await state(), before, 'something changed');
    replay.write(member, ones(size, 0.01));
  });
}

test('a non-finite loss stops the step', async () => {
  for (const value of bad) {
    replay.write(loss, ones(1, value));
    assert.is((await run())[0]?.[0], 1);
  }
  replay.write(loss, ones(1));
  assert.is((await replay.run())[0]?.[0], 1, 'a step behind the bad one must not change anything');
  assert.equal(await state(), before, 'something changed');
  replay.write(loss, ones(1));
});

test('garbage between the tensors of a pack is no element of theirs', async () => {
  const padding = new Float32Array(gradients.flat.shape[0] ?? 0).fill(Number.NaN);
  for (const { view, shape } of gradients.members)
    padding.fill(0.01, view?.offset, (view?.offset ?? 0) + (shape[0] ?? 0));
  const clean = padding.map((value) => (Number.isNaN(value) ? 0 : value));
  replay.write(gradients.flat, padding);
  replay.write(loss, ones(1, Number.NaN)); // the update itself must not run on it
  const [, , squares] = await run();
  gradients.members.forEach(({ shape }, i) => {
    const expected = 1e-4 * (shape[0] ?? 0);
    assert.ok(Math.abs((squares?.[i] ?? Number.NaN) - expected) < 1e-5 * expected, `tensor ${i}: ${squares?.[i]}`);
  });
  replay.write(gradients.flat, clean);
  replay.write(loss, ones(1));
});

test('the same step with finite numbers changes everything, as one that never met them', async () => {
  const [flag, norms] = await run();
  assert.is(flag?.[0], 0);
  assert.ok((norms?.[1] ?? 0) > 0);
  (await state()).forEach((bits, i) => {
    assert.not.equal(bits, before[i], `state ${i} stays`);
  });
  const fresh = await makeOptimizer();
  await fresh.replay.run();
  assert.equal(await fresh.state(), await state());
  assert.ok((await replay.read(parameters.flat)).every(Number.isFinite));
  fresh.replay.destroy();
});

test('a non-finite probability reaches the loss and the gradient, unless its row weighs nothing', async () => {
  for (const width of [3, 8]) {
    const graph = new Graph();
    const [student, teacher] = [graph.input('student', [2, width]), graph.input('teacher', [1, width])];
    const weights = graph.input('weights', [2]);
    const partners = graph.constant('partners', [2, 2], Uint32Array.of(0, NO_ROW, NO_ROW, 0));
    const inputs = [student, teacher, partners, weights];
    const value = graph.one(crossEntropy, inputs, {});
    const gradient = graph.one(crossEntropyBackward, [...inputs, graph.constant('dloss', [1], ones(1))], {});
    const flag = graph.state('flag', [1], 'u32');
    graph.add(updateFlag, [flag, value, gradient], {});
    const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [flag, value])), [flag, value]);
    const run = (): Promise<Elements[]> => {
      replay.write(flag, new Uint32Array(1));
      return replay.run();
    };
    const base = ones(2 * width, 1 / width);
    replay.write(teacher, ones(width, 1 / width));
    for (const number of bad) {
      const data = base.slice();
      data[2 * width - 1] = number;
      replay.write(student, data);
      replay.write(weights, Float32Array.of(1, 0));
      const [unharmed, finite] = await run();
      assert.is(unharmed?.[0], 0, `${number} in a row of weight 0 counts`);
      assert.ok(Math.abs((finite?.[0] ?? Number.NaN) - Math.log(width)) < 1e-6);
      replay.write(weights, Float32Array.of(0.5, 1));
      assert.is((await run())[0]?.[0], 1, `${number} in the student is lost`);
    }
    replay.write(student, base);
    for (const number of bad) {
      const data = ones(width, 1 / width);
      data[0] = number;
      replay.write(teacher, data);
      assert.is((await run())[0]?.[0], 1, `${number} in the teacher is lost`);
    }
    replay.destroy();
  }
});

test.after(async () => {
  replay.destroy();
  await gpu.close();
});

test.run();
