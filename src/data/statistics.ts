import type { ImageSet } from './dataset.js';
import { forEachParallel } from './prefetch.js';

/** Mean and population standard deviation of each channel, of values in [0, 1]. */
export interface Statistics {
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export interface ChannelStatistics extends Statistics {
  /** Images they were taken from. */
  readonly images: number;
}

const sampled = 2000;
/** A constant channel must not make its normalisation divide by zero: one grey level is the least spread. */
const leastStd = 1 / 255;

/**
 * Channel statistics, exact for a set in memory, else of up to 2,000 images at even distances. Every image counts the
 * same, however large. The sums are of whole numbers (counts of grey levels), so the result does not depend on the
 * order in which images are decoded. `std` is at least 1/255.
 */
export async function channelStatistics(set: ImageSet): Promise<ChannelStatistics> {
  const { channels } = set;
  if (set.resident) {
    const moments = momentsOf(set.resident.pixels, channels);
    return summary(moments.mean, moments.square, set.count);
  }
  const images = Math.min(set.count, sampled);
  const each = new Array<{ mean: number[]; square: number[] }>(images);
  await forEachParallel(images, 4, async (i) => {
    const { data } = await set.read(Math.floor((i * set.count) / images));
    each[i] = momentsOf(data, channels);
  });
  const average = (pick: (m: { mean: number[]; square: number[] }) => number[]): number[] =>
    Array.from({ length: channels }, (_, c) => each.reduce((sum, m) => sum + pick(m)[c]!, 0) / images);
  return summary(
    average((m) => m.mean),
    average((m) => m.square),
    images,
  );
}

/** Means of the values and of their squares, in units of one grey level. */
function momentsOf(pixels: Uint8Array, channels: number): { mean: number[]; square: number[] } {
  const counts = new Float64Array(channels * 256);
  if (channels === 1) for (const value of pixels) counts[value]!++;
  else {
    for (let i = 0; i < pixels.length; i += 3) {
      counts[pixels[i]!]!++;
      counts[256 + pixels[i + 1]!]!++;
      counts[512 + pixels[i + 2]!]!++;
    }
  }
  const n = pixels.length / channels;
  const mean: number[] = [];
  const square: number[] = [];
  for (let c = 0; c < channels; c++) {
    let sum = 0;
    let sumOfSquares = 0;
    for (let value = 0; value < 256; value++) {
      sum += value * counts[c * 256 + value]!;
      sumOfSquares += value * value * counts[c * 256 + value]!;
    }
    mean.push(sum / n);
    square.push(sumOfSquares / n);
  }
  return { mean, square };
}

function summary(mean: readonly number[], square: readonly number[], images: number): ChannelStatistics {
  const std = mean.map((m, c) => Math.max(leastStd, Math.sqrt(Math.max(0, square[c]! - m * m)) / 255));
  return { mean: mean.map((m) => m / 255), std, images };
}

/** One number for each channel; a single one serves all. */
export function perChannel(values: readonly number[], channels: number): number[] {
  return Array.from({ length: channels }, (_, i) => values[i] ?? values[0] ?? 0);
}
