import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as v from 'valibot';
import { debugAugment } from '../src/cli/debug-augment.js';
import { ConfigSchema } from '../src/config/schema.js';
import { drawCrop, drawView, encodeViews, inside, newViewArrays } from '../src/data/augment.js';
import type { NamedArray } from '../src/data/safetensors.js';
import { SopError } from '../src/errors.js';
import { openNodeGpu } from '../src/node.js';
import { DRAWS_WIDTH, TABLE, TABLE_WIDTH } from '../src/ops/augment.js';
import { Draws } from '../src/rng.js';
import { assertClose } from './compare.js';
import { fixture } from './fixtures-support.js';

const gpu = await openNodeGpu();

for (const name of ['augment-enlarge', 'augment-reduce', 'augment-large', 'augment-grey']) {
  test(`${name}: as the PyTorch oracle`, async () => {
    const { tensors, metadata } = fixture(`${name}.input`);
    const [views] = await debugAugment(gpu, tensors, metadata);
    const expected = fixture(`${name}.expected`).tensors.get('views') as NamedArray;
    assert.equal(views?.shape, expected.shape);
    // f32 on [0, 1] over a deviation of 0.22: see kernels-test/augment.ts; mean and std are f32 here and f64 in the oracle.
    const spec = { shape: expected.shape, dtype: 'f32' as const };
    assertClose(name, spec, views?.data as Float32Array, expected.data as Float64Array, 1e-5);
  });
}

test('debug augment names what is wrong with its input', async () => {
  const { tensors, metadata } = fixture('augment-grey.input');
  const refuse = async (name: string, change: (tensor: NamedArray) => NamedArray | null, message: RegExp) => {
    const changed = new Map(tensors);
    const tensor = change(tensors.get(name) as NamedArray);
    if (tensor) changed.set(name, tensor);
    else changed.delete(name);
    try {
      await debugAugment(gpu, changed, metadata);
      assert.unreachable(name);
    } catch (error) {
      assert.instance(error, SopError);
      assert.is((error as SopError).exitCode, 65);
      assert.match((error as SopError).message, message);
    }
  };
  await refuse('crop', () => null, /\(crop\): expected I32 \[6,4\], got nothing of that name/);
  await refuse('images', (tensor) => ({ ...tensor, shape: [6, 28, 14, 2] }), /1 or 3 channels/);
  const first = (value: number) => (tensor: NamedArray) => {
    const data = (tensor.data as Int32Array).slice();
    data[0] = value;
    return { ...tensor, data } as NamedArray;
  };
  await refuse('crop', first(28), /inside 28 x 28/);
  await refuse('crop', first(-1), /inside 28 x 28/);
  await refuse('jitter', first(Number.POSITIVE_INFINITY), /finite/);
  await refuse('jitter_order', first(4), /once each/);
  await refuse('blur', first(Number.NaN), /blur/);
});

const options = v.parse(ConfigSchema, {});
const draw = (item: number) => new Draws({ seed: 5, purpose: 'augment', item });

test('crops lie in the image, within the bounds of area and aspect', () => {
  const image = { width: 100, height: 80 };
  const shares: number[] = [];
  for (let item = 0; item < 2000; item++) {
    const crop = drawCrop(draw(item), image, [0.25, 0.5]);
    assert.ok(inside(crop, image));
    // Both sides are rounded to whole pixels, of at least 35.
    const share = (crop.width * crop.height) / (image.width * image.height);
    assert.ok(share > 0.25 * 0.97 && share < 0.5 * 1.03, `area ${share}`);
    const aspect = crop.width / crop.height;
    assert.ok(aspect > 0.75 * 0.97 && aspect < (4 / 3) * 1.03, `aspect ${aspect}`);
    shares.push(share);
  }
  // Uniform on [0.25, 0.5]: mean 0.375, deviation of the mean 0.0016; crops that do not fit are drawn again, which favours small ones slightly.
  assert.ok(Math.abs(shares.reduce((sum, share) => sum + share, 0) / shares.length - 0.375) < 0.01);
});

test('crops reach every pixel', () => {
  const seen = new Uint8Array(20 * 16);
  for (let item = 0; item < 2000; item++) {
    const { x, y, width, height } = drawCrop(draw(item), { width: 20, height: 16 }, [0.25, 0.5]);
    for (let row = y; row < y + height; row++) seen.fill(1, row * 20 + x, row * 20 + x + width);
  }
  assert.not(seen.includes(0));
});

test('an image too long for any crop gives its middle', () => {
  assert.equal(drawCrop(draw(0), { width: 400, height: 30 }, [0.9, 1]), { x: 180, y: 0, width: 40, height: 30 });
  assert.equal(drawCrop(draw(0), { width: 30, height: 400 }, [0.9, 1]), { x: 0, y: 180, width: 30, height: 40 });
  assert.equal(drawCrop(draw(0), { width: 1, height: 1 }, [0.05, 0.1]), { x: 0, y: 0, width: 1, height: 1 });
});

test('views are drawn with the probabilities of their kind', () => {
  const image = { width: 64, height: 48 };
  const count = 4000;
  const frequency = (
    kind: 'global0' | 'global1' | 'local',
    test: (view: ReturnType<typeof drawView>) => boolean,
  ): number =>
    Array.from({ length: count }, (_, item) => drawView(draw(item), kind, image, options)).filter(test).length / count;
  // Four deviations of a frequency of 4,000 draws are at most 0.032.
  const near = (got: number, expected: number) =>
    assert.ok(Math.abs(got - expected) < 0.032, `${got}, not ${expected}`);
  near(
    frequency('global0', ({ flip }) => flip),
    0.5,
  );
  near(
    frequency('global1', ({ grey }) => grey),
    0.2,
  );
  near(
    frequency('local', ({ jitter }) => jitter.brightness !== 1),
    0.8,
  );
  near(
    frequency('local', ({ jitter: { order } }) => order[0] === 3),
    0.2,
  );
  assert.is(
    frequency('global0', ({ sigma }) => sigma >= 0.1 && sigma <= 2),
    1,
  );
  near(
    frequency('global1', ({ sigma }) => sigma > 0),
    0.1,
  );
  near(
    frequency('local', ({ sigma }) => sigma > 0),
    0.5,
  );
  assert.is(
    frequency('global0', ({ solarize }) => solarize),
    0,
  );
  near(
    frequency('global1', ({ solarize }) => solarize),
    0.2,
  );
  assert.is(
    frequency('local', ({ solarize }) => solarize),
    0,
  );
  assert.is(
    frequency('local', ({ crop }) => crop.width * crop.height < 0.27 * 64 * 48),
    1,
  );
  const factors = frequency(
    'global0',
    ({ jitter }) => Math.abs(jitter.hue) <= 0.1 && Math.abs(jitter.saturation - 1) <= 0.2,
  );
  assert.is(factors, 1);
  assert.equal(drawView(draw(3), 'local', image, options), drawView(draw(3), 'local', image, options));
});

test('views are encoded view by view, each with its image', () => {
  const sources = [
    { offset: 0, width: 20, height: 10 },
    { offset: 600, width: 9, height: 12 },
  ];
  const views = Array.from({ length: 4 }, (_, i) => drawView(draw(i), 'local', sources[i % 2]!, options));
  const arrays = newViewArrays(4);
  encodeViews(arrays, views, sources);
  assert.is(arrays.draws.length, 4 * DRAWS_WIDTH);
  const column = (name: keyof typeof TABLE) => [0, 1, 2, 3].map((i) => arrays.table[i * TABLE_WIDTH + TABLE[name]]);
  assert.equal(column('offset'), [0, 600, 0, 600]);
  assert.equal(column('width'), [20, 9, 20, 9]);
  assert.equal(
    column('cropHeight'),
    views.map(({ crop }) => crop.height),
  );
  assert.throws(() => encodeViews(arrays, views.slice(1), sources), RangeError);
  assert.throws(() => encodeViews(arrays, views, [{ ...sources[0]!, width: 1 }, sources[1]!]), RangeError);
});

test.run();
