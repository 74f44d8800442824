import type { DecodedImage } from '../data/dataset.js';
import { ExitCode, SopError } from '../errors.js';
import { cubic } from './cubic.js';

/** What an encoder wants of its images. */
export interface ImageFormat {
  /** 1 or 3. */
  readonly channels: number;
  /** Side of the square, pixels. */
  readonly size: number;
  /** Of each channel, as `std`, of values in [0, 1]. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** The protocol's resize for a crop of 224: shorter side to 256. */
const RESIZE_OVER_CROP = 256 / 224;

/** Of the cubic kernel, as in PIL. */
const A = -0.5;

/** Contribution of consecutive source pixels to one target pixel. */
interface Taps {
  readonly first: number;
  readonly weights: readonly number[];
}

/**
 * An image as the evaluation protocol feeds it to an encoder: f32 [C, size, size], normalised. Images of exactly that size
 * are used as they are; others are resized (bicubic, antialiased, as PIL) and cropped in the centre. Grey images are
 * repeated for an encoder of colour images.
 * @throws SopError 65 for a colour image and a grey encoder.
 */
export function preprocess(image: DecodedImage, { channels, size, mean, std }: ImageFormat): Float32Array<ArrayBuffer> {
  const { width, height } = image;
  const given = image.data.length / (width * height);
  if (given !== channels && given !== 1) {
    throw new SopError(ExitCode.data, {
      what: 'image has more channels than the encoder reads',
      where: `${width} x ${height} x ${given}`,
      why: `the encoder was trained on ${channels}`,
      fix: 'convert the images to grey, or use another encoder',
    });
  }
  const planes = Array.from({ length: given }, (_, channel) => plane(image, given, channel, size));
  const result = new Float32Array(channels * size * size);
  for (let channel = 0; channel < channels; channel++) {
    const values = planes[given === 1 ? 0 : channel] ?? planes[0]!;
    const shift = mean[channel] ?? 0;
    const scale = 1 / (std[channel] ?? 1);
    for (let i = 0; i < values.length; i++) result[channel * size * size + i] = (values[i]! - shift) * scale;
  }
  return result;
}

/** What `preprocess` gave, or a view of a step, f32 [C, size, size], as RGBA: normalisation undone. */
export function toRgba(
  values: Float32Array,
  { channels, mean, std }: Pick<ImageFormat, 'channels' | 'mean' | 'std'>,
): Uint8ClampedArray<ArrayBuffer> {
  const pixels = values.length / channels;
  const result = new Uint8ClampedArray(4 * pixels).fill(255);
  for (let i = 0; i < pixels; i++) {
    for (let c = 0; c < 3; c++) {
      const channel = channels === 1 ? 0 : c;
      result[4 * i + c] = 255 * (values[channel * pixels + i]! * (std[channel] ?? 1) + (mean[channel] ?? 0));
    }
  }
  return result;
}

/** One channel in [0, 1], resized and cropped: [size, size]. */
function plane({ width, height, data }: DecodedImage, channels: number, channel: number, size: number): Float64Array {
  const source = (pixel: number): number => data[pixel * channels + channel]! / 255;
  if (width === size && height === size) return Float64Array.from({ length: size * size }, (_, i) => source(i));
  const shorter = Math.round(size * RESIZE_OVER_CROP);
  // As torchvision: the longer side is cut to a whole number, the crop's corner is rounded, halves to even.
  const side = (length: number): number => Math.floor((shorter * length) / Math.min(width, height));
  const target = { width: side(width), height: side(height) };
  const left = roundHalfEven((target.width - size) / 2);
  const top = roundHalfEven((target.height - size) / 2);
  const across = taps(width, target.width, left, size);
  const down = taps(height, target.height, top, size);
  const rows = new Float64Array(size * height);
  for (let y = 0; y < height; y++) {
    across.forEach(({ first, weights }, x) => {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i]! * source(y * width + first + i);
      rows[y * size + x] = sum;
    });
  }
  const result = new Float64Array(size * size);
  down.forEach(({ first, weights }, y) => {
    for (let x = 0; x < size; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += weights[i]! * rows[(first + i) * size + x]!;
      result[y * size + x] = Math.min(1, Math.max(0, sum));
    }
  });
  return result;
}

function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** PIL's antialiased bicubic filter for target pixels `offset` ... `offset + count - 1` of a side. */
function taps(source: number, target: number, offset: number, count: number): Taps[] {
  const scale = source / target;
  const stretch = Math.max(1, scale);
  return Array.from({ length: count }, (_, i) => {
    const center = (offset + i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - 2 * stretch + 0.5));
    const end = Math.min(source, Math.trunc(center + 2 * stretch + 0.5));
    const raw = Array.from({ length: end - first }, (_, j) => cubic((first + j - center + 0.5) / stretch, A));
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: raw.map((weight) => weight / total) };
  });
}
