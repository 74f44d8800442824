import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DecodedImage } from '../src/data/dataset.js';
import { ExitCode } from '../src/errors.js';
import { type ImageFormat, preprocess } from '../src/eval/preprocess.js';
import { assertClose } from './compare.js';
import { fails, numbers } from './data-support.js';
import { EPSILON } from './declare.js';

/** Keys' cubic with PIL's A = -0.5. */
function cubic(x: number): number {
  const t = Math.abs(x);
  if (t < 1) return 1.5 * t ** 3 - 2.5 * t ** 2 + 1;
  return t < 2 ? -0.5 * t ** 3 + 2.5 * t ** 2 - 4 * t + 2 : 0;
}

/** One row of the dense resize matrix: the weight of each of `source` pixels in target pixel `at` of `target`. */
function weights(source: number, target: number, at: number): number[] {
  const scale = source / target;
  const raw = Array.from({ length: source }, (_, j) => cubic((j + 0.5 - (at + 0.5) * scale) / Math.max(1, scale)));
  const total = raw.reduce((a, b) => a + b);
  return raw.map((weight) => weight / total);
}

/** The protocol as full matrix products: shorter side to round(size x 256 / 224), centre crop, clamp, normalise. */
function reference(
  { width, height, data }: DecodedImage,
  format: ImageFormat,
  target: { w: number; h: number; x: number; y: number },
): Float64Array {
  const channels = data.length / (width * height);
  const { size } = format;
  const result = new Float64Array(format.channels * size * size);
  for (let c = 0; c < format.channels; c++)
    for (let y = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        const [down, across] = [weights(height, target.h, y + target.y), weights(width, target.w, x + target.x)];
        let sum = 0;
        for (let j = 0; j < height; j++)
          for (let i = 0; i < width; i++)
            sum += (down[j]! * across[i]! * data[(j * width + i) * channels + (channels === 1 ? 0 : c)]!) / 255;
        result[(c * size + y) * size + x] = (Math.min(1, Math.max(0, sum)) - format.mean[c]!) / format.std[c]!;
      }
  return result;
}

function image(width: number, height: number, channels: number): DecodedImage {
  const next = numbers(width * 1000 + height);
  return { width, height, data: Uint8Array.from({ length: width * height * channels }, () => next(256)) };
}

const colour: ImageFormat = { channels: 3, size: 7, mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3] };

test('an image of exactly the size is used as it is', () => {
  const given = image(7, 7, 3);
  const expected = Array.from({ length: 3 * 49 }, (_, at) => {
    const c = Math.floor(at / 49);
    return (given.data[(at % 49) * 3 + c]! / 255 - colour.mean[c]!) / colour.std[c]!;
  });
  assertClose('as it is', { shape: [3, 7, 7], dtype: 'f32' }, preprocess(given, colour), expected, 8 * EPSILON);
});

test('other images are resized and cropped as torchvision does it', () => {
  // Shorter side round(7 x 256 / 224) = 8; the longer one is cut to a whole number, the corner rounded half to even.
  const cases = [
    { width: 20, height: 20, target: { w: 8, h: 8, x: 0, y: 0 } },
    { width: 23, height: 17, target: { w: 10, h: 8, x: 2, y: 0 } },
    { width: 9, height: 31, target: { w: 8, h: 27, x: 0, y: 10 } },
    { width: 7, height: 8, target: { w: 8, h: 9, x: 0, y: 1 } },
    { width: 4, height: 3, target: { w: 10, h: 8, x: 2, y: 0 } },
    { width: 1, height: 1, target: { w: 8, h: 8, x: 0, y: 0 } },
  ];
  for (const { width, height, target } of cases) {
    const given = image(width, height, 3);
    const spec = { shape: [3, 7, 7], dtype: 'f32' } as const;
    // Computed in float64, rounded once.
    const expected = reference(given, colour, target);
    assertClose(`${width} x ${height}`, spec, preprocess(given, colour), expected, 8 * EPSILON);
  }
});

test('a grey image serves an encoder of colour, not the other way round', async () => {
  const grey = image(12, 11, 1);
  const expected = reference(grey, colour, { w: 8, h: 8, x: 0, y: 0 });
  assertClose('grey', { shape: [3, 7, 7], dtype: 'f32' }, preprocess(grey, colour), expected, 8 * EPSILON);
  const single = { channels: 1, size: 7, mean: [0.5], std: [0.5] };
  assert.is(preprocess(grey, single).length, 49);
  await fails(() => preprocess(image(7, 7, 3), single), ExitCode.data, /7 x 7 x 3/);
});

test('overshoot of the cubic is clamped', () => {
  // A white bar on black rings below 0 and above 1 beside its edges.
  const data = Uint8Array.from({ length: 16 * 16 }, (_, i) => (i % 16 >= 5 && i % 16 < 9 ? 255 : 0));
  const values = preprocess({ width: 16, height: 16, data }, { channels: 1, size: 28, mean: [0], std: [1] });
  assert.is(Math.min(...values), 0);
  assert.is(Math.max(...values), 1);
});

test.run();
