import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ExitCode, SopError } from '../../errors.js';
import { hexCrc } from '../crc32.js';
import { checkIndex, type DecodedImage, type ImageSet, residentSet } from '../dataset.js';
import { forEachParallel } from '../prefetch.js';
import { decodeImage, defaultPixelLimit, imageInfo } from './decode.js';
import type { ImageListing } from './image-folder.js';
import { isShortage } from './io-errors.js';

export interface BadImage {
  readonly file: string;
  readonly reason: string;
}

export interface FolderOptions {
  /** Sets whose images are all of one size and take no more than this are decoded once (default 512 MiB). */
  readonly residentBytes?: number;
  /** Larger images are refused before they are decoded (default 100 million pixels). */
  readonly limitInputPixels?: number;
  /**
   * What to do about an image that cannot be decoded: `error` (default) throws. `skip` leaves it out of a set that is
   * decoded at once; in a larger one, where it is found during training, the next readable image of the same class
   * stands in for it, always the same one. Either way not more than `badImageCap` of them.
   */
  readonly onBadImage?: 'error' | 'skip';
  /**
   * False: no image stands in for another, as features of a set must be its own. With `skip` a set that is not resident
   * is then decoded once more, at first, to find what must be left out.
   */
  readonly standIn?: boolean;
  /** Called once for each image that was skipped. */
  readonly onBad?: (bad: BadImage) => void;
  /** Called with what people should know about the set (files ignored, images left out). */
  readonly onNote?: (note: string) => void;
  readonly onProgress?: (done: number, total: number, what: string) => void;
  /** Files read or decoded at a time (default: the cores). */
  readonly concurrency?: number;
}

/** Skipping is for a few damaged files, not for a damaged set: 100 or 1 %, and of small sets no more than a tenth. */
export function badImageCap(count: number): number {
  return Math.max(Math.min(100, Math.ceil(count / 10)), Math.floor(count / 100));
}

/** What must be known of a folder before any image is decoded. */
export interface FolderScan {
  /** Whether every readable image is grey. */
  readonly grey: boolean;
  /** The size of every readable image, or null if they differ, or one is too large for the whole set to be resident. */
  readonly size: { readonly width: number; readonly height: number } | null;
}

/**
 * Reads the headers of a folder's images, only until both answers are certain: for colour photographs a few files.
 * Files that cannot be read are left to decoding.
 */
export async function scanFolder(listing: ImageListing, options: FolderOptions = {}): Promise<FolderScan> {
  const { residentBytes = 512 * 2 ** 20, limitInputPixels = defaultPixelLimit } = options;
  const { files, root } = listing;
  let grey = true;
  let seen = 0;
  let size: { width: number; height: number } | null | undefined;
  await forEachParallel(files.length, options.concurrency ?? availableParallelism(), async (i) => {
    const info = await imageInfo(join(root, files[i]!), limitInputPixels).catch((error: unknown) => {
      if (error instanceof SopError) return null;
      throw error;
    });
    options.onProgress?.(++seen, files.length, 'looking at images');
    if (info === null) return true;
    grey &&= info.grey;
    if (size === undefined) size = info;
    const fits = info.width * info.height * (grey ? 1 : 3) * files.length <= residentBytes;
    if (size && (!fits || size.width !== info.width || size.height !== info.height)) size = null;
    return grey || size !== null;
  });
  return { grey: grey && size !== undefined, size: size ? { width: size.width, height: size.height } : null };
}

/**
 * The image set of a folder.
 *
 * @throws SopError 65 for an image that cannot be decoded (see `onBadImage`): here if the set is resident, else in
 * `read`; 66 if it cannot be read
 */
export async function folderSet(
  name: string,
  listing: ImageListing,
  scan: FolderScan,
  channels: 1 | 3,
  options: FolderOptions = {},
): Promise<ImageSet> {
  const bad = new BadImages(listing, options);
  if (scan.size) return decodeAll(name, listing, scan.size, channels, bad, options);
  if (options.onBadImage === 'skip' && options.standIn === false) {
    const readable = await withoutBad(listing, channels, bad, options);
    return folderSet(name, readable, scan, channels, { ...options, onBadImage: 'error' });
  }
  const { labels, classes, files, root } = listing;
  const count = files.length;
  /** The next image of the same class, round in a circle. */
  const after = (index: number): number => {
    let next = (index + 1) % count;
    while (labels && labels[next] !== labels[index]) next = (next + 1) % count;
    return next;
  };
  const read = async (index: number): Promise<DecodedImage> => {
    checkIndex(name, count, index);
    let at = index;
    do {
      if (!bad.has(at)) {
        try {
          return await decodeImage(join(root, files[at]!), channels, options.limitInputPixels);
        } catch (error) {
          bad.add(at, error);
        }
      }
      at = after(at);
    } while (at !== index);
    throw new SopError(ExitCode.data, {
      what: 'no readable image is left',
      where: root,
      why: `nothing can stand in for ${files[index]}: all images of its class are damaged`,
      fix: 'repair the set',
    });
  };
  return { name, channels, count, labels, classes, files, resident: null, checksum: () => checksumOf(listing), read };
}

/** Files that stand for a set: as many as are read in a moment. */
const SAMPLED = 200;

/** Checksum of the contents of some files. One that cannot be read is as if it were empty: who decodes it says so. */
async function checksumOf({ files, root }: ImageListing): Promise<string> {
  const count = Math.min(SAMPLED, files.length);
  let crc = 0;
  for (let i = 0; i < count; i++) {
    const file = files[Math.floor((i * files.length) / count)]!;
    crc = crc32(await readFile(join(root, file)).catch(() => ''), crc);
  }
  return hexCrc(crc);
}

/** The files of a listing that can be decoded. @throws SopError 65 where there are too many others */
async function withoutBad(
  listing: ImageListing,
  channels: 1 | 3,
  bad: BadImages,
  options: FolderOptions,
): Promise<ImageListing> {
  const { files, labels, root } = listing;
  let done = 0;
  await forEachParallel(files.length, options.concurrency ?? availableParallelism(), async (i) => {
    await decodeImage(join(root, files[i]!), channels, options.limitInputPixels).catch((error) => bad.add(i, error));
    options.onProgress?.(++done, files.length, 'decoding images');
  });
  const kept = Array.from(files.keys()).filter((i) => !bad.has(i));
  return {
    ...listing,
    files: kept.map((i) => files[i]!),
    labels: labels && Int32Array.from(kept, (i) => labels[i]!),
  };
}

async function decodeAll(
  name: string,
  listing: ImageListing,
  { width, height }: { width: number; height: number },
  channels: 1 | 3,
  bad: BadImages,
  options: FolderOptions,
): Promise<ImageSet> {
  const { files, labels, classes, root } = listing;
  const size = width * height * channels;
  const pixels = new Uint8Array(files.length * size);
  let done = 0;
  await forEachParallel(files.length, options.concurrency ?? availableParallelism(), async (i) => {
    try {
      const image = await decodeImage(join(root, files[i]!), channels, options.limitInputPixels);
      if (image.width !== width || image.height !== height) throw changedSize(join(root, files[i]!), image);
      pixels.set(image.data, i * size);
    } catch (error) {
      bad.add(i, error);
    }
    options.onProgress?.(++done, files.length, 'decoding images');
  });
  const kept = Array.from(files.keys()).filter((i) => !bad.has(i));
  if (kept.length === files.length) {
    return residentSet({ name, channels, width, height, pixels, labels, classes, files });
  }
  kept.forEach((from, to) => {
    pixels.copyWithin(to * size, from * size, (from + 1) * size);
  });
  return residentSet({
    name,
    channels,
    width,
    height,
    pixels: pixels.slice(0, kept.length * size),
    labels: labels && Int32Array.from(kept, (i) => labels[i]!),
    classes,
    files: kept.map((i) => files[i]!),
  });
}

function changedSize(path: string, image: DecodedImage): SopError {
  return new SopError(ExitCode.data, {
    what: 'image changed while it was read',
    where: path,
    why: `it is ${image.width} x ${image.height} now`,
    fix: 'do not change the set during a run',
  });
}

/** Which images of a set were found to be bad, and whether that can be lived with. */
class BadImages {
  private readonly found = new Set<number>();
  private readonly cap: number;

  constructor(
    private readonly listing: ImageListing,
    private readonly options: FolderOptions,
  ) {
    this.cap = badImageCap(listing.files.length);
  }

  has(index: number): boolean {
    return this.found.has(index);
  }

  /** Notes that decoding image `index` failed. @throws the error itself unless it may be skipped */
  add(index: number, error: unknown): void {
    const skippable = error instanceof SopError && this.options.onBadImage === 'skip' && !isShortage(error.cause);
    if (!skippable) throw error;
    if (this.found.has(index)) return;
    this.found.add(index);
    const file = this.listing.files[index]!;
    if (this.found.size <= this.cap && this.found.size < this.listing.files.length) {
      this.options.onBad?.({ file, reason: error.complaint.why });
      return;
    }
    throw new SopError(
      ExitCode.data,
      {
        what: 'too many images cannot be decoded',
        where: this.listing.root,
        why: `${this.found.size} so far, ${this.cap} of ${this.listing.files.length} may be skipped; the last is ${file}: ${error.complaint.why}`,
        fix: 'run "sop-gpu check-data" for the whole list and repair the set',
      },
      { cause: error },
    );
  }
}
