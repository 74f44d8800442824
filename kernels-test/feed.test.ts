import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { type DecodedImage, type ImageSet, residentSet } from '../src/data/dataset.js';
import { shrink } from '../src/data/shrink.js';
import { defaultTarget } from '../src/gpu/target.js';
import type { Tensor } from '../src/graph/tensor.js';
import { DRAWS, DRAWS_WIDTH, TABLE, TABLE_WIDTH } from '../src/ops/augment.js';
import type { Elements } from '../src/plan/replay.js';
import { drawPatchRows, Feed } from '../src/sop/feed.js';
import { traceTraining, UPLOAD_AREA } from '../src/sop/training.js';

/**
 * What a step reads is drawn for each of its views alone, and of the images that it says. A run whose views share draws, or
 * that sees other images than it should, trains, resumes and repeats itself like any other: nothing else would tell.
 */
const [width, height, channels, count, batch] = [30, 28, 3, 10, 3] as const;
const bytes = width * height * channels;
const noise = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 2654435761) >>> 24);
const inMemory = residentSet({ name: 'noise', channels, width, height, pixels: noise(count * bytes, 0) });

const [depth, rate] = [8, 0.9];
const config = await configFrom({
  set: [
    ...['model.arch=custom', 'model.width=16', `model.depth=${depth}`, 'model.heads=2', `model.drop_path=${rate}`],
    ...['model.patch_size=4', 'model.image_size=28', 'model.local_size=16', 'views.local_count=2', 'augment.jitter=1'],
    ...['mask.kind=random', 'mask.ratio=0.5', 'head.hidden=16', 'head.layers=2', 'head.out=8', 'train.steps=7'],
    ...['sop.cls.memory=23', 'sop.cls.anchors=8', 'sop.patch.memory=17', 'sop.patch.anchors=8', 'sop.cls.neighbours=0'],
    ...['train.batch_size=3', 'optim.warmup=0'],
  ],
});
const [globals, views, patches] = [2 * batch, 4 * batch, 49];

/** The first seven batches, which begin three epochs: nine of the ten images make an epoch of three steps. */
async function batches(set: ImageSet) {
  const data = {
    channels,
    mean: [0.5, 0.5, 0.5],
    std: [0.2, 0.2, 0.2],
    residentBytes: set.resident ? count * bytes : null,
  };
  const training = traceTraining(config, data as Parameters<typeof traceTraining>[1], defaultTarget);
  const feed = new Feed(training, set, 0);
  const { global, local, pixels } = training.views[0]!;
  const { inputs } = training.step.batches[0];
  const steps = [];
  for (let step = 0; step < 7; step++) {
    const { step: number, epoch, writes } = await feed.next();
    assert.equal([number, epoch], [step, Math.floor(step / 3)]);
    const written = new Map<Tensor, Elements>(writes);
    const numbers = (tensor: Tensor | null | undefined) => [...written.get(tensor!)!];
    /** A row a view, the two global ones of all images first. */
    const rows = (of: 'table' | 'draws', size: number) => {
      const all = [...numbers(global[of]), ...numbers(local![of])];
      return Array.from({ length: views }, (_, view) => all.slice(view * size, (view + 1) * size));
    };
    steps.push({
      images: [...feed.imagesOf(step)],
      table: rows('table', TABLE_WIDTH),
      draws: rows('draws', DRAWS_WIDTH),
      mask: numbers(inputs.mask),
      keep: numbers(inputs.keep),
      teacherRows: numbers(inputs.teacherRows),
      pixels: written.get(pixels),
    });
  }
  feed.close();
  return steps;
}
const steps = await batches(inMemory);

test('an epoch has images of its own in an order of its own, each once', () => {
  const epochs = [0, 3].map((first) => steps.slice(first, first + 3).flatMap(({ images }) => images));
  for (const images of epochs) assert.equal([images.length, new Set(images).size], [9, 9]);
  assert.not.equal(epochs[0], epochs[1]);
});

test('views are those of the images of their step, where these lie', () => {
  for (const { images, table } of steps) {
    table.forEach((row, view) => {
      assert.equal([row[TABLE.offset], row[TABLE.width]], [images[view % batch]! * bytes, width], `view ${view}`);
      assert.ok(row[TABLE.x]! + row[TABLE.cropWidth]! <= width && row[TABLE.y]! + row[TABLE.cropHeight]! <= height);
    });
  }
});

test('every view has draws of its own: of its image, of the others and of other steps', () => {
  for (const place of [DRAWS.brightness, DRAWS.contrast, DRAWS.saturation, DRAWS.hue]) {
    const drawn = steps.flatMap(({ draws }) => draws.map((row) => row[place]));
    assert.is(new Set(drawn).size, drawn.length);
  }
});

test('every global view has a mask of its own', () => {
  const masks = steps.flatMap(({ mask }) =>
    Array.from({ length: globals }, (_, view) => mask.slice(view * patches, (view + 1) * patches)),
  );
  for (const mask of masks)
    assert.is(
      mask.reduce((sum, masked) => sum + masked, 0),
      24,
    );
  assert.is(new Set(masks.map((mask) => mask.join(''))).size, masks.length);
});

test('every view drops branches of its own, the later ones more often, and the kept ones count for them', () => {
  const patterns = new Set<string>();
  for (let block = 0; block < depth; block++) {
    const dropped = (rate * block) / (depth - 1);
    const values = steps.flatMap(({ keep }) => keep.slice(2 * block * views, (2 * block + 2) * views));
    const kept = values.filter((value) => value !== 0);
    for (const value of kept) assert.is(value, Math.fround(1 / (1 - dropped)));
    // Four standard deviations of the share; none is left at rate 0.
    const share = kept.length / values.length;
    assert.ok(Math.abs(share - 1 + dropped) <= 4 * Math.sqrt((dropped * (1 - dropped)) / values.length), `${share}`);
  }
  for (const { keep } of steps) {
    for (let view = 0; view < views; view++) patterns.add(keep.filter((_, i) => i % views === view).join());
  }
  // Of 7 blocks with two branches each; two in a hundred patterns may come twice by chance.
  assert.ok(patterns.size > 0.9 * steps.length * views, `${patterns.size} patterns`);
});

test('each image gives E_P a patch of its second view, drawn for it and the step', () => {
  const all = steps.map(({ teacherRows }, step) => {
    const rows = drawPatchRows(config.train.seed, step, 0, batch, patches);
    const expected = Array.from(rows, (patch, image) => (batch + image) * (1 + patches) + 1 + patch);
    assert.equal(teacherRows.slice(-batch), expected);
    return [...rows];
  });
  const drawn = all.flat();
  assert.ok(drawn.every((patch) => patch >= 0 && patch < patches));
  // 21 draws of 49 patches hit 17 of them on average, a standard deviation is 1.4.
  assert.ok(new Set(drawn).size >= 17 - 4 * 1.4, `${drawn}`);
  // The item of a draw is its place in the step: what an image of a later part draws.
  assert.equal([...drawPatchRows(config.train.seed, 5, 1, 2, patches)], all[5]!.slice(1));
});

test('images that are not in memory are uploaded one behind the other, large ones reduced', async () => {
  const area = UPLOAD_AREA * 28 * 28;
  /** Every other one is larger than the device gets. */
  const image = (index: number): DecodedImage => {
    const side = index % 2 === 0 ? 28 : 150;
    return { width: side, height: 40, data: noise(side * 40 * channels, index) };
  };
  const files: ImageSet = { ...inMemory, resident: null, read: async (index) => image(index) };
  for (const { images, table, pixels } of await batches(files)) {
    const uploaded = new Uint8Array(pixels!.buffer);
    let offset = 0;
    images.forEach((index, i) => {
      const { width: side, data } = shrink(image(index), area);
      assert.is(side, index % 2 === 0 ? 28 : 75);
      for (let view = i; view < views; view += batch)
        assert.equal([table[view]![TABLE.offset], table[view]![TABLE.width]], [offset, side]);
      assert.equal(uploaded.slice(offset, offset + data.length), data);
      offset += data.length;
    });
  }
});

test('a reduced image has means of whole blocks, as few as it must', () => {
  const sums = { width: 5, height: 4, data: Uint8Array.from({ length: 20 }, (_, i) => i * i) };
  assert.ok(shrink(sums, 20) === sums);
  // Blocks of 2 x 2; the fifth column fills none.
  const means = [0, 2, 10, 12].map((at) => {
    const first = sums.data[at]! + sums.data[at + 1]! + sums.data[at + 5]! + sums.data[at + 6]!;
    return Math.round(first / 4);
  });
  assert.equal(shrink(sums, 19), { width: 2, height: 2, data: Uint8Array.from(means) });
  assert.equal([shrink(sums, 4).width, shrink(sums, 3).width], [2, 1]);
  // Channels stay apart, and a side that is shorter than a block is one pixel.
  const line = { width: 6, height: 1, data: Uint8Array.from([0, 9, 2, 9, 4, 9, 6, 9, 8, 9, 10, 9]) };
  assert.equal(shrink(line, 2), { width: 2, height: 1, data: Uint8Array.of(2, 9, 8, 9) });
});

test.run();
