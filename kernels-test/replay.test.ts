import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { residentSet } from '../src/data/dataset.js';
import { reasonOf } from '../src/errors.js';
import type { Gpu } from '../src/gpu/device.js';
import { Graph } from '../src/graph/graph.js';
import { openNodeGpu } from '../src/node.js';
import { add } from '../src/ops/add.js';
import { sampleRows } from '../src/ops/sample_rows.js';
import { updateEma } from '../src/ops/update_ema.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { type Elements, Replay } from '../src/plan/replay.js';
import { permuted, stream } from '../src/rng.js';
import { Feed } from '../src/sop/feed.js';
import { Trainer } from '../src/sop/trainer.js';
import { traceTraining } from '../src/sop/training.js';
import { creations } from './creations-support.js';

/** The traps of tracing once and replaying: what a step must see anew, and what it must leave alone. */
const gpu = await openNodeGpu({ quiet: true });

const SIZE = 70;
const filled = (value: number): Float32Array<ArrayBuffer> => new Float32Array(SIZE).fill(value);
/** The one value of a constant tensor. */
function only(data: Elements | undefined): number {
  const [first = Number.NaN] = data ?? [];
  assert.ok(
    data?.every((value) => value === first),
    `not all elements are ${first}`,
  );
  return first;
}

/** state = (1 - rate) state + rate x;  y = state + x;  rows drawn by (seed, step). Powers of two keep it exact. */
async function makeStep(on: Gpu = gpu) {
  const graph = new Graph();
  const offset = filled(100);
  const [x, state] = [graph.input('x', [SIZE]), graph.state('average', [SIZE])];
  const [rate, seed, step] = [graph.scalar('rate'), graph.scalar('seed', 'u32'), graph.scalar('step', 'u32')];
  const flag = graph.input('flag', [1], 'u32');
  graph.add(updateEma, [flag, state, x], { rate });
  const y = graph.one(add, [graph.one(add, [state, x], {}), graph.constant('offset', [SIZE], offset)], {});
  const rows = graph.one(sampleRows, [], { count: 5, from: 1000, stream: 3, seed, step });
  const replay = new Replay(await compile(on, plan(graph, on.target, [y, rows])), [y, rows]);
  return { replay, x, state, flag, rate, seed, step, y, offset };
}
type Step = Awaited<ReturnType<typeof makeStep>>;

async function withStep(body: (step: Step) => Promise<void>, on: Gpu = gpu): Promise<void> {
  const step = await makeStep(on);
  try {
    await body(step);
  } finally {
    step.replay.destroy();
  }
}

test('scalars that change between steps take effect', () =>
  withStep(async ({ replay, x, rate, seed, step }) => {
    replay.write(x, filled(8));
    replay.setScalar(seed, 5);
    const expected = [
      { rate: 0.5, y: 4 + 8 + 100 },
      { rate: 0, y: 4 + 8 + 100 },
      { rate: 1, y: 8 + 8 + 100 },
    ];
    for (const [i, values] of expected.entries()) {
      replay.setScalar(rate, values.rate);
      replay.setScalar(step, i);
      await replay.ready();
      const [y, rows] = await replay.run();
      assert.is(only(y), values.y, `step ${i}`);
      assert.equal(
        [...(rows ?? [])],
        [0, 1, 2, 3, 4].map((place) => permuted(stream(5, 3, i), place, 1000)),
      );
    }
  }));

test('inputs that are rewritten take effect, and those that are not stay', () =>
  withStep(async ({ replay, x, rate, flag }) => {
    replay.setScalar(rate, 0);
    for (const value of [3, -7]) {
      const data = filled(value);
      replay.write(x, data);
      data.fill(99); // what the host does with its array after `write` is its own affair
      for (let again = 0; again < 2; again++) assert.is(only((await replay.run())[0]), value + 100);
    }
    replay.write(flag, Uint32Array.of(1));
    replay.setScalar(rate, 1);
    assert.is(only((await replay.run())[0]), 93, 'the flag is an input as well');
  }));

test('state persists from step to step, can be written and read back', () =>
  withStep(async ({ replay, x, state, rate }) => {
    replay.setScalar(rate, 0.5);
    replay.write(x, filled(16));
    for (let i = 0; i < 3; i++) await replay.run();
    assert.is(only(await replay.read(state)), 14);
    replay.write(state, filled(-16));
    await replay.run();
    assert.is(only(await replay.read(state)), 0);
  }));

test('constants are taken when the plan is compiled', () =>
  withStep(async ({ replay, x, rate, offset }) => {
    offset.fill(5);
    replay.setScalar(rate, 0);
    replay.write(x, filled(1));
    assert.is(only((await replay.run())[0]), 101);
  }));

test('steps in flight do not mix: each sees its own scalars and inputs and keeps its own results', () =>
  withStep(async ({ replay, x, rate, seed, step }) => {
    replay.setScalar(seed, 9);
    const results: Promise<Elements[]>[] = [];
    let average = 0;
    const expected = Array.from({ length: 10 }, (_, i) => {
      average = i % 2 ? average : (average + 2 ** i) / 2;
      return average + 2 ** i + 100;
    });
    for (let i = 0; i < 10; i++) {
      await replay.ready();
      replay.setScalar(rate, i % 2 ? 0 : 0.5);
      replay.setScalar(step, i);
      replay.write(x, filled(2 ** i));
      results.push(replay.run());
    }
    // Read only now: a result must not be a view of a staging buffer that later steps reuse.
    const all = await Promise.all(results);
    assert.equal(
      all.map(([y]) => only(y)),
      expected,
    );
    all.forEach(([, rows], i) => {
      assert.is(rows?.[0], permuted(stream(9, 3, i), 0, 1000));
    });
  }));

test('a step creates nothing on the device', () =>
  withStep(async ({ replay, x, rate }) => {
    replay.write(x, filled(1));
    await replay.run();
    const made = await creations(gpu.device, async () => {
      for (let i = 0; i < 8; i++) {
        await replay.ready();
        replay.setScalar(rate, i / 8);
        replay.write(x, filled(i));
        void replay.run();
      }
      await replay.settled();
    });
    assert.equal(made, []);
    const one = { size: 4, usage: GPUBufferUsage.COPY_DST };
    const counted = await creations(gpu.device, async () => gpu.device.createBuffer(one).destroy());
    assert.equal(counted, ['createBuffer'], 'the count itself works');
  }));

test('a training step creates nothing after the first, its batch included', async () => {
  const small = ['model.width=16', 'model.heads=2', 'model.depth=1', 'head.hidden=16', 'head.out=8'];
  const memories = ['sop.cls.memory=64', 'sop.cls.anchors=8', 'sop.patch.memory=64', 'sop.patch.anchors=8'];
  const config = await configFrom({ preset: 'quickstart', batchSize: '2', set: [...small, ...memories] });
  const pixels = Uint8Array.from({ length: 8 * 28 * 28 }, (_, i) => (i * 37) % 251);
  const set = residentSet({ name: 'bytes', channels: 1, width: 28, height: 28, pixels });
  const data = { channels: 1, mean: [0.5], std: [0.25], residentBytes: pixels.byteLength } as const;
  const training = traceTraining(config, data, gpu.target);
  const trainer = await Trainer.create(gpu, training);
  const feed = new Feed(training, set, 0);
  const step = async (number: number): Promise<number> => {
    const { writes } = await feed.next();
    await trainer.ready();
    const values = { step: number, lr: 1e-3, weightDecay: 0.04, momentum: 0.99, teacherTemp: 0.04 };
    return (await trainer.step(writes, values)).loss;
  };
  try {
    for (const write of Feed.residentPixels(training, set)) trainer.write(write);
    await step(1);
    const losses: number[] = [];
    const made = await creations(gpu.device, async () => {
      for (let number = 2; number < 6; number++) losses.push(await step(number));
    });
    assert.equal(made, []);
    assert.ok(losses.every(Number.isFinite), String(losses));
  } finally {
    feed.close();
    trainer.destroy();
  }
});

test('warming up leaves the step ready to run', () =>
  withStep(async ({ replay, x, state, rate }) => {
    const progress: string[] = [];
    await replay.warmUp((done, total) => progress.push(`${done}/${total}`));
    assert.equal(progress, ['1/3', '2/3', '3/3'], 'the two additions share a pipeline');
    replay.setScalar(rate, 0.5);
    replay.write(state, filled(0));
    replay.write(x, filled(2));
    assert.is(only((await replay.run())[0]), 103);
  }));

test('writing another number of elements than a tensor has is refused by name', () =>
  withStep(async ({ replay, x }) => {
    assert.throws(() => replay.write(x, new Float32Array(3)), /x\): 12 bytes written, it has 280/);
  }));

test('a validation error is fatal: every wait after it throws', async () => {
  const own = await openNodeGpu({ quiet: true });
  const { replay } = await makeStep(own);
  await replay.run();
  own.device.createBuffer({ label: 'of impossible usage', size: 4, usage: 0x8000_0000 });
  const failure = async (body: () => Promise<unknown>): Promise<string> => {
    try {
      await body();
    } catch (error) {
      return reasonOf(error);
    }
    return 'went on in silence';
  };
  assert.match(await failure(() => own.failed), /GPU validation error .*of impossible usage/);
  const waits = [() => replay.run(), () => replay.ready(), () => replay.settled()];
  for (const wait of waits) assert.match(await failure(wait), /GPU validation error/);
  assert.throws(() => own.check(), /GPU validation error/);
  await own.close();
});

test.after(() => gpu.close());

test.run();
