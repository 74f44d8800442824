import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import type { Config } from '../src/config/schema.js';
import { residentSet } from '../src/data/dataset.js';
import type { NamedArray } from '../src/data/safetensors.js';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import { openNodeGpu } from '../src/node.js';
import { chooseTiling } from '../src/ops/matmul.js';
import { bindingLimit } from '../src/plan/binding-limit.js';
import { describePlan } from '../src/plan/report.js';
import { Feed } from '../src/sop/feed.js';
import { runClock } from '../src/sop/loop.js';
import { Trainer } from '../src/sop/trainer.js';
import { traceTraining } from '../src/sop/training.js';
import { compare } from './compare.js';
import { numbers } from './data-support.js';

/** One step is one step, however its images are divided: by `optim.accumulate`, or because an adapter's bindings are small. */
const gpu = await openNodeGpu({ quiet: true });
const next = numbers(5);
const pixels = Uint8Array.from({ length: 21 * 28 * 28 }, () => next(256));
const set = residentSet({ name: 'noise', channels: 1, width: 28, height: 28, pixels });
const data = { channels: 1 as const, mean: [0.5], std: [0.25], residentBytes: pixels.length };

const settings = [
  ...['model.arch=custom', 'model.width=16', 'model.depth=2', 'model.heads=2', 'model.drop_path=0.3', 'train.steps=2'],
  ...['model.patch_size=7', 'model.image_size=28', 'model.local_size=14', 'mask.ratio=0.4', 'views.local_count=2'],
  ...['head.hidden=16', 'head.layers=2', 'head.out=8', 'sop.cls.memory=23', 'sop.cls.anchors=8', 'sop.cls.tasks=2'],
  ...['sop.cls.neighbours=2', 'sop.patch.memory=17', 'sop.patch.anchors=8', 'optim.warmup=0', 'train.batch_size=3'],
];

/** The settings above, of which `more` replaces some. */
const configOf = (more: readonly string[]): Promise<Config> =>
  configFrom({ set: [...new Map([...settings, ...more].map((text) => [text.split('=')[0], text])).values()] });

/**
 * This adapter with a binding that holds the largest activation of so many images: MLP ratio 4 times width 16 for each token
 * of two views of 17 and two of 5. Pixels of the set, packs of parameters (they are split) and scratch are smaller.
 */
const roomFor = (images: number): Target => ({ ...gpu.target, maxBindingBytes: images * 4 * 64 * 2 * (17 + 5) });

interface Run {
  readonly sizes: readonly number[];
  readonly losses: readonly (readonly number[])[];
  /** After the first step. */
  readonly state: ReadonlyMap<string, NamedArray>;
}

/** Two steps. */
async function run(more: readonly string[], target: Target = gpu.target): Promise<Run> {
  const config = await configOf(more);
  const training = traceTraining(config, data, target);
  const { largestBinding } = describePlan(training.plan);
  assert.ok(largestBinding.bytes <= bindingLimit(target), largestBinding.label);
  const trainer = await Trainer.create(gpu, training);
  const feed = new Feed(training, set, 0);
  try {
    for (const write of Feed.residentPixels(training, set)) trainer.write(write);
    const clock = runClock(config, feed.stepsPerEpoch);
    const losses: number[][] = [];
    let state: NamedArray[] = [];
    for (let done = 0; done < 2; done++) {
      const { writes } = await feed.next();
      const { loss, lossCls, lossPatch } = await trainer.step(writes, clock.values(done, 0)!);
      losses.push([loss, lossCls, lossPatch]);
      if (done === 0) state = await trainer.save();
    }
    const sizes = training.shape.batches.map(({ images }) => images);
    return { sizes, losses, state: new Map(state.map((array) => [array.name, array])) };
  } finally {
    feed.close();
    trainer.destroy();
  }
}

/**
 * Sums of gradients over images are rounded in another order: some units of 2^-24, amplified by 1 / temperature = 25 in what
 * flows out of the losses. Memories and their pointers hold the same rows. Moments are gradients, clipped.
 */
function same(a: Run, b: Run): void {
  assert.ok(compare(a.losses.flat(), b.losses.flat()).error < 1e-5, `${a.losses} and ${b.losses}`);
  for (const [name, { data: expected, dtype }] of a.state) {
    if (!/^(moment1|memory)\./.test(name)) continue;
    const got = Float64Array.from(b.state.get(name)?.data as Float32Array);
    const wanted = Float64Array.from(expected as Float32Array);
    // A key bias has a true gradient of 0: what is there is rounding.
    const third = name.endsWith('qkv.bias') ? got.length / 3 : 0;
    got.set(wanted.subarray(third, 2 * third), third);
    const { error, index } = compare(got, wanted);
    assert.ok(error <= (dtype === 'F32' ? 3e-5 : 0), `${name}: ${error} of the RMS at ${index}`);
  }
}

test('a step of 6 images is that of 2 batches of 3, each in parts of 2 and 1', async () => {
  const [large, divided] = [
    await run(['train.batch_size=6']),
    await run(['train.batch_size=3', 'optim.accumulate=2'], roomFor(2)),
  ];
  assert.equal([large.sizes, divided.sizes], [[6], [2, 1, 2, 1]]);
  same(large, divided);
});

test('as few parts as fit, sizes as equal as they can be', async () => {
  const sizes = async (batch: number, room: number): Promise<number[]> => {
    const { shape, plan } = traceTraining(await configOf([`train.batch_size=${batch}`]), data, roomFor(room));
    assert.ok(describePlan(plan).largestBinding.bytes <= bindingLimit(roomFor(room)));
    return shape.batches.map(({ images }) => images);
  };
  assert.equal(await sizes(7, 7), [7]);
  assert.equal(await sizes(7, 3), [3, 2, 2]);
  assert.equal(await sizes(64, 15), [13, 13, 13, 13, 12]);
});

test('a limit just below some images: one part more may be as large, and more are tried', async () => {
  const config = await configOf(['train.batch_size=64']);
  for (const room of [3, 6, 9]) {
    const target = { ...roomFor(room), maxBindingBytes: roomFor(room).maxBindingBytes - 4 };
    const sizes = traceTraining(config, data, target).shape.batches.map(({ images }) => images);
    assert.is(Math.max(...sizes), room - 1);
  }
});

test('what no division makes smaller is refused', async () => {
  const refused = async (limit: number, more: readonly string[], expected: RegExp): Promise<void> => {
    const config = await configOf(more);
    const small = { ...defaultTarget, maxBindingBytes: limit };
    assert.throws(() => traceTraining(config, data, small), expected);
  };
  await refused(
    2 ** 20,
    ['sop.cls.memory=65536'],
    /memory\.cls\): it needs 2\.0 MiB in one binding.*--set sop\.cls\.memory=N/,
  );
  // D of 8192 anchors: one for all images.
  await refused(2 ** 19, ['sop.cls.memory=16384', 'sop.cls.anchors=8192'], /sop\.cls\/support/);
  await refused(2 ** 13, [], /one binding/);
});

test('parts of a product, to be added, stay within one binding', () => {
  const target = { ...defaultTarget, kind: 'lavapipe', subgroupSize: 8 } as const;
  for (const inner of [200, 20_000, 200_000]) {
    for (const [rows, columns] of [
      [2048, 2048],
      [768, 3072],
      [8192, 8192],
    ] as const) {
      const types = { operands: 'f32', y: 'f32' } as const;
      const sizes = { batch: 1, rows, columns, inner, transA: true, transB: false, sums: false, types };
      const { splits } = chooseTiling(sizes, target);
      assert.ok(
        splits === 1 || 4 * splits * rows * columns <= target.maxBindingBytes,
        `${splits} of ${rows} x ${columns}`,
      );
    }
  }
});

test.run();
