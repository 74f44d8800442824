import { ExitCode, SopError } from '../errors.js';
import { checkBytes } from './dtype.js';

/** A decoded image: u8 [height, width, channels], row-major, sRGB or grey. */
export interface DecodedImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** A set of images of one number of channels, with labels where there are some. Nothing of it ever changes. */
export interface ImageSet {
  /** For people, e.g. "Fashion-MNIST (official files), train". */
  readonly name: string;
  readonly channels: 1 | 3;
  readonly count: number;
  /** Class index per image. */
  readonly labels: Int32Array | null;
  readonly classes: readonly string[] | null;
  /** File name per image, relative to the set's folder, with forward slashes. */
  readonly files: readonly string[] | null;
  /** All pixels, u8 [count, height, width, channels], of sets of one size that fit in memory. */
  readonly resident: { readonly width: number; readonly height: number; readonly pixels: Uint8Array } | null;
  /** Checksum of the contents of some files, at even distances, of a set in files whose pixels are not in memory. */
  readonly checksum?: () => Promise<string>;
  /**
   * Image `index`, in no particular time: call it ahead (`Prefetcher`). The data may be a view: do not write into it.
   * @throws RangeError for an index outside the set; SopError 65 for an image that cannot be decoded, 66 for one that cannot
   * be read
   */
  read(index: number): Promise<DecodedImage>;
}

/** A data set: images to learn from, and others to measure on. */
export interface DataSplits {
  readonly train: ImageSet;
  /** From test/, val/, t10k or test_batch, else null. */
  readonly test: ImageSet | null;
}

/** What `residentSet` makes a set of: images of one size, sides in pixels. */
export interface ResidentInit {
  readonly name: string;
  readonly channels: 1 | 3;
  readonly width: number;
  readonly height: number;
  /** u8 [count, height, width, channels] */
  readonly pixels: Uint8Array;
  readonly labels?: Int32Array | null;
  readonly classes?: readonly string[] | null;
  readonly files?: readonly string[] | null;
}

/**
 * A set whose pixels are all in memory; it has as many images as they make up.
 * @throws SopError 70 where they are no whole number of images, or labels or files are not as many; 64 for pixels that are no
 * bytes
 */
export function residentSet(init: ResidentInit): ImageSet {
  const { name, channels, width, height, pixels, labels = null, classes = null, files = null } = init;
  checkBytes(pixels, name);
  const size = width * height * channels;
  const count = pixels.length / size;
  if (!Number.isInteger(count) || (labels && labels.length !== count) || (files && files.length !== count)) {
    throw new SopError(ExitCode.internal, {
      what: 'image set that does not fit together',
      where: name,
      why: `${pixels.length} bytes of ${width} x ${height} x ${channels}, ${labels?.length ?? 'no'} labels, ${files?.length ?? 'no'} files`,
      fix: 'give whole images, and one label and one name for each or none',
    });
  }
  const read = async (index: number): Promise<DecodedImage> => {
    checkIndex(name, count, index);
    return { width, height, data: pixels.subarray(index * size, (index + 1) * size) };
  };
  return { name, channels, count, labels, classes, files, resident: { width, height, pixels }, read };
}

/** @throws RangeError for an index outside the set: a bug of the caller, never a matter of the data */
export function checkIndex(name: string, count: number, index: number): void {
  if (Number.isInteger(index) && index >= 0 && index < count) return;
  throw new RangeError(`${name} has the images 0 to ${count - 1}, asked for ${index}`);
}

/**
 * The images `indices` of `set`, in that order (an index may occur twice). Pixels in memory are copied.
 * @throws RangeError for an index outside the set
 */
export function subset(set: ImageSet, indices: ArrayLike<number>, name = set.name): ImageSet {
  const chosen = Int32Array.from(indices);
  for (const index of chosen) checkIndex(set.name, set.count, index);
  const labels = set.labels && chosen.map((index) => set.labels![index]!);
  const files = set.files && Array.from(chosen, (index) => set.files![index]!);
  const { channels, classes } = set;
  if (set.resident) {
    const { width, height, pixels } = set.resident;
    const size = width * height * channels;
    const copy = new Uint8Array(chosen.length * size);
    chosen.forEach((index, i) => {
      copy.set(pixels.subarray(index * size, (index + 1) * size), i * size);
    });
    return residentSet({ name, channels, width, height, pixels: copy, labels, classes, files });
  }
  const read = async (index: number): Promise<DecodedImage> => {
    checkIndex(name, chosen.length, index);
    return set.read(chosen[index]!);
  };
  return { name, channels, count: chosen.length, labels, classes, files, resident: null, read };
}
