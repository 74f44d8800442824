import {
  type AugmentAttributes,
  augment,
  DRAWS,
  DRAWS_WIDTH,
  FLAG,
  JITTER,
  TABLE,
  TABLE_WIDTH,
} from '../src/ops/augment.js';
import { type Case, EPSILON, opTest, Random, type Values } from './declare.js';

/** A plane of one view or image: rows of numbers. */
type Plane = number[][];

/** PIL's bicubic kernel, A = -0.5. */
function cubic(distance: number): number {
  const x = Math.abs(distance);
  if (x < 1) return 1.5 * x ** 3 - 2.5 * x ** 2 + 1;
  return x < 2 ? -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2 : 0;
}

/** Output i of a line resampled to `size`: the kernel widens with the reduction and its weights sum to 1. */
function resampled(line: readonly number[], size: number, i: number): number {
  const reduction = line.length / size;
  const weights = line.map((_, j) => cubic((j + 0.5 - (i + 0.5) * reduction) / Math.max(1, reduction)));
  return (
    line.reduce((sum, value, j) => sum + value * weights[j]!, 0) / weights.reduce((sum, weight) => sum + weight, 0)
  );
}

const transpose = (plane: Plane): Plane => plane[0]!.map((_, x) => plane.map((row) => row[x]!));
const resampleRows = (plane: Plane, size: number): Plane =>
  plane.map((row) => Array.from({ length: size }, (_, i) => resampled(row, size, i)));
const clamp = (value: number): number => Math.min(1, Math.max(0, value));

function cropResize(
  byte: (at: number) => number,
  row: Values,
  channel: number,
  { channels, size }: AugmentAttributes,
): Plane {
  const at = (name: keyof typeof TABLE): number => row[TABLE[name]]!;
  const crop = Array.from({ length: at('cropHeight') }, (_, y) =>
    Array.from({ length: at('cropWidth') }, (_, x) => {
      const pixel = (at('y') + y) * at('width') + at('x') + x;
      return byte(at('offset') + pixel * channels + channel) / 255;
    }),
  );
  const resized = transpose(resampleRows(transpose(resampleRows(crop, size)), size));
  const flipped = at('flags') & FLAG.flip ? resized.map((line) => line.reverse()) : resized;
  return flipped.map((line) => line.map(clamp));
}

/** Applies `change` to the pixels (one number a channel) of a view. */
function mapPixels(planes: readonly Plane[], change: (pixel: number[]) => number[]): Plane[] {
  const changed = planes[0]!.map((line, y) => line.map((_, x) => change(planes.map((plane) => plane[y]![x]!))));
  return planes.map((_, channel) => changed.map((line) => line.map((pixel) => pixel[channel]!)));
}

const luma = (pixel: readonly number[]): number =>
  pixel.length === 1 ? pixel[0]! : 0.299 * pixel[0]! + 0.587 * pixel[1]! + 0.114 * pixel[2]!;

const blend = (pixel: number[], other: number, factor: number): number[] =>
  pixel.map((value) => clamp(factor * value + (1 - factor) * other));

/** Through HSV as in colour science books: hue in sixths of a turn. */
function shiftHue([r, g, b]: number[], turns: number): number[] {
  const value = Math.max(r!, g!, b!);
  const chroma = value - Math.min(r!, g!, b!);
  if (chroma === 0) return [r!, g!, b!];
  const hue = value === r ? (g! - b!) / chroma : value === g ? (b! - r!) / chroma + 2 : (r! - g!) / chroma + 4;
  const turned = (((hue + 6 * turns) % 6) + 6) % 6;
  const sector = Math.floor(turned);
  const rest = turned - sector;
  const [p, q, t] = [value - chroma, value - chroma * rest, value - chroma * (1 - rest)];
  return [
    [value, t, p],
    [q, value, p],
    [p, value, t],
    [p, q, value],
    [t, p, value],
    [value, p, q],
  ][sector]!.map(clamp);
}

function jitter(start: Plane[], draws: Values, order: number): Plane[] {
  let planes = start;
  for (let step = 0; step < 4; step++) {
    const operation = (order >> (2 * step)) & 3;
    const mean = planes[0]!.flatMap((line, y) => line.map((_, x) => luma(planes.map((plane) => plane[y]![x]!))));
    const average = mean.reduce((sum, value) => sum + value, 0) / mean.length;
    planes = mapPixels(planes, (pixel) => {
      if (operation === JITTER.brightness) return blend(pixel, 0, draws[DRAWS.brightness]!);
      if (operation === JITTER.contrast) return blend(pixel, average, draws[DRAWS.contrast]!);
      if (pixel.length === 1) return pixel;
      if (operation === JITTER.saturation) return blend(pixel, luma(pixel), draws[DRAWS.saturation]!);
      return shiftHue(pixel, draws[DRAWS.hue]!);
    });
  }
  return planes;
}

/** Index in a line whose ends are mirrors that show their own pixel once. */
function reflected(i: number, size: number): number {
  if (size === 1) return 0;
  let at = i;
  while (at < 0 || at >= size) at = at < 0 ? -at : 2 * (size - 1) - at;
  return at;
}

function blurRows(plane: Plane, sigma: number): Plane {
  const radius = Math.ceil(3 * sigma);
  const offsets = Array.from({ length: 2 * radius + 1 }, (_, i) => i - radius);
  const weights = offsets.map((offset) => Math.exp(-(offset ** 2) / (2 * sigma ** 2)));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return plane.map((row) =>
    row.map((_, x) => offsets.reduce((sum, o, i) => sum + weights[i]! * row[reflected(x + o, row.length)]!, 0) / total),
  );
}

const images = { width: 23, height: 31 };

/** A row of `table` and `draws` each; what is not said is "none". */
interface View {
  readonly offset?: number;
  readonly width?: number;
  readonly crop: readonly [x: number, y: number, width: number, height: number];
  readonly flags?: number;
  readonly order?: readonly number[];
  readonly factors?: readonly number[];
  readonly sigma?: number;
}

function augmentCase(channels: 1 | 3, size: number, views: readonly View[], words: number): Case<AugmentAttributes> {
  const table = views.flatMap(({ offset = 0, width = images.width, crop, flags = 0, order = [0, 1, 2, 3] }) => [
    offset,
    width,
    ...crop,
    flags,
    order.reduce((code, operation, step) => code + operation * 4 ** step, 0),
  ]);
  const draws = views.flatMap(({ factors = [1, 1, 1, 0], sigma = 0 }) => [...factors, sigma]);
  const bytes = (random: Random) => Array.from({ length: words }, () => random.below(2 ** 32));
  return {
    inputs: [
      { shape: [words], dtype: 'u32', fill: bytes },
      { shape: [views.length, TABLE_WIDTH], dtype: 'u32', fill: () => table },
      { shape: [views.length, DRAWS_WIDTH], fill: () => draws },
    ],
    attrs: {
      channels,
      size,
      mean: [0.485, 0.456, 0.406].slice(0, channels),
      std: [0.229, 0.224, 0.225].slice(0, channels),
    },
  };
}

/** Views of 8 images of noise, 1.5 times as large, with crops, flips, colours and blurs of all kinds. */
function drawnCase(count: number, size: number, channels = 3): Case<AugmentAttributes> {
  if (channels !== 1 && channels !== 3) throw new RangeError(`images of ${channels} channels, not of 1 or 3`);
  const random = new Random(count + size);
  const side = Math.ceil(1.5 * size);
  const between = (low: number, high: number): number => low + random.below(high - low + 1);
  const views = Array.from({ length: count }, (_, i): View => {
    const [width, height] = [between(Math.ceil(side / 4), side), between(Math.ceil(side / 4), side)];
    return {
      offset: (i % 8) * side * side * channels,
      width: side,
      crop: [between(0, side - width), between(0, side - height), width, height],
      flags: random.below(2) * FLAG.flip + (i % 5 === 0 ? FLAG.grey : 0),
      order: [0, 1, 2, 3].map((operation) => (operation + i) % 4),
      factors: [0.6 + 0.8 * random.uniform(), 0.6 + 0.8 * random.uniform(), 0.8 + 0.4 * random.uniform(), 0.05],
      sigma: i % 2 ? 0.1 + 1.9 * random.uniform() : 0,
    };
  });
  return augmentCase(channels, size, views, Math.ceil(2 * side * side * channels));
}

const words = (channels: number, count = 1): number => Math.ceil((images.width * images.height * channels * count) / 4);

const grey = augmentCase(
  1,
  7,
  [
    { crop: [0, 0, 23, 31] },
    { crop: [22, 30, 1, 1], flags: FLAG.flip },
    { crop: [3, 5, 4, 20], flags: FLAG.flip | FLAG.grey, factors: [1.3, 0.6, 1.2, 0.1], order: [3, 1, 0, 2] },
    { offset: 713, crop: [1, 0, 21, 2], factors: [0.7, 1.4, 1, 0], order: [0, 2, 1, 3], sigma: 1.3 },
    { offset: 713, crop: [0, 7, 5, 3], sigma: 4.2, flags: FLAG.flip },
  ],
  words(1, 2),
);
const colour = augmentCase(
  3,
  9,
  [
    { crop: [0, 0, 23, 31], factors: [1, 1, 1, 0.5], order: [3, 2, 1, 0] },
    { crop: [10, 1, 3, 29], flags: FLAG.flip, factors: [1.4, 0.6, 0.8, -0.1], order: [2, 0, 3, 1], sigma: 0.4 },
    { crop: [1, 2, 5, 4], flags: FLAG.grey, factors: [0.6, 1.4, 1.2, 0.07], order: [1, 3, 2, 0], sigma: 2 },
    { offset: 2139, crop: [0, 0, 23, 31], flags: FLAG.grey | FLAG.flip, factors: [1, 0.5, 1, 0] },
  ],
  words(3, 2),
);
// Crops of the size of the view, which resizing leaves as they are: no value may lie within rounding of the threshold.
const solarized = augmentCase(3, 4, [{ crop: [2, 3, 4, 4], flags: FLAG.solarize }, { crop: [7, 3, 4, 4] }], words(3));
const onePixel = augmentCase(
  1,
  1,
  [
    { crop: [0, 0, 23, 31], sigma: 1 },
    { crop: [4, 4, 2, 2], sigma: 1e-25 },
  ],
  words(1),
);
// More sums of columns than one level of the mean adds, and workgroups that divide nothing.
const large = augmentCase(1, 34, [{ crop: [2, 1, 20, 29], factors: [1.2, 0.5, 1, 0], sigma: 0.5 }], words(1));

export const augmentTests = [
  opTest({
    op: augment,
    reference: ({ inputs: [pixels, table, draws], attrs, wanted }) => {
      const { channels, size, mean, std } = attrs;
      const byte = (at: number): number => Math.floor(pixels![at >> 2]! / 256 ** (at & 3)) & 255;
      const count = table!.length / TABLE_WIDTH;
      const views = new Float64Array(count * channels * size * size);
      for (let view = 0; view < count; view++) {
        const rows = channels * size;
        if (!Array.from({ length: rows }, (_, i) => wanted(view * rows + i)).includes(true)) continue;
        const row = table!.subarray(view * TABLE_WIDTH, (view + 1) * TABLE_WIDTH);
        const drawn = draws!.subarray(view * DRAWS_WIDTH, (view + 1) * DRAWS_WIDTH);
        const flags = row[TABLE.flags]!;
        const sigma = drawn[DRAWS.sigma]!;
        let planes = Array.from({ length: channels }, (_, channel) => cropResize(byte, row, channel, attrs));
        planes = jitter(planes, drawn, row[TABLE.order]!);
        if (flags & FLAG.grey) planes = mapPixels(planes, (pixel) => pixel.map(() => luma(pixel)));
        if (sigma > 0) planes = planes.map((plane) => transpose(blurRows(transpose(blurRows(plane, sigma)), sigma)));
        if (flags & FLAG.solarize)
          planes = mapPixels(planes, (pixel) => pixel.map((v) => (v >= 128 / 255 ? 1 - v : v)));
        planes.forEach((plane, channel) => {
          const values = plane.flat().map((value) => (value - mean[channel]!) / std[channel]!);
          views.set(values, (view * channels + channel) * size * size);
        });
      }
      return [views];
    },
    cases: [grey, colour, solarized, onePixel, large],
    // Sums of products with weights of sum 1, and of absolute sum below 2 on each axis: 8 roundings. Jitter multiplies what a
    // value is off by as it does the value (clamping only lessens it): brightness and contrast by up to 1.4, saturation by 1.2.
    // Its own operations, the hue's quotient among them, and those that follow are 8 roundings of values up to 1. Divided by
    // std, 1 / 0.224, against an RMS of 1 or more.
    tolerance: () => ((8 * 1.4 * 1.4 * 1.2 + 8) / 0.224) * EPSILON,
    bench: {
      dims: ['views', 'size', 'channels?'],
      sized: drawnCase,
      shapesOf: ({ outputs: [views], attrs: { channels } }) => [[views!.shape[0]!, views!.shape[2]!, channels]],
    },
    sampledRows: 2,
  }),
];
