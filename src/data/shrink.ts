import type { DecodedImage } from './dataset.js';

/**
 * An image of at most `maxArea` pixels: unchanged, or reduced by the smallest whole factor that suffices, each pixel the
 * rounded mean of a block. Rows and columns that fill no block are left out.
 */
export function shrink(image: DecodedImage, maxArea: number): DecodedImage {
  const { width, height, data } = image;
  if (width * height <= maxArea) return image;
  const channels = data.length / (width * height);
  let factor = 2;
  while (reduced(width, factor) * reduced(height, factor) > maxArea) factor += 1;
  const small = { width: reduced(width, factor), height: reduced(height, factor) };
  const across = Math.min(factor, width);
  const down = Math.min(factor, height);
  const result = new Uint8Array(small.width * small.height * channels);
  for (let y = 0; y < small.height; y++) {
    for (let x = 0; x < small.width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        let sum = 0;
        for (let j = 0; j < down; j++) {
          for (let i = 0; i < across; i++)
            sum += data[((y * factor + j) * width + x * factor + i) * channels + channel]!;
        }
        result[(y * small.width + x) * channels + channel] = Math.round(sum / (across * down));
      }
    }
  }
  return { ...small, data: result };
}

/** A side after reduction: at least 1. */
function reduced(side: number, factor: number): number {
  return Math.max(1, Math.floor(side / factor));
}
