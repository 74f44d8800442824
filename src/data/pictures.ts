import { ExitCode, reasonOf, SopError } from '../errors.js';
import { checkIndex, type DecodedImage, type ImageSet } from './dataset.js';
import { AT_ONCE, forEachParallel } from './prefetch.js';
import { shrink } from './shrink.js';

/**
 * Anything that browsers hold images in: files and other blobs, bitmaps, pixels of a canvas (RGBA), or plain pixels, u8
 * [height, width, 1 or 3].
 */
export type Picture = Blob | ImageBitmap | ImageData | DecodedImage;

/** Most pixels of an image that is decoded: a browser tab has no room for more. */
const PIXEL_LIMIT = 100e6;

/**
 * Pixels of a picture, u8 [height, width, channels]. Blobs are decoded by the browser (`createImageBitmap`): upright by their
 * EXIF orientation, in sRGB. What is transparent is laid over white. Grey is 0.299 R + 0.587 G + 0.114 B, as in PIL.
 *
 * @param where names the picture in messages
 * @throws SopError 65 for what the browser cannot decode, for more than 100 million pixels, and for plain pixels whose
 * length is not width x height x 1 or 3; for a blob outside browsers
 */
export async function decodePicture(picture: Picture, channels: 1 | 3 = 3, where = 'picture'): Promise<DecodedImage> {
  if (picture instanceof Blob) {
    const name = picture instanceof File ? picture.name : where;
    if (typeof createImageBitmap !== 'function')
      throw unreadable(name, 'there is no createImageBitmap', 'give its pixels');
    const bitmap = await createImageBitmap(picture).catch((cause: unknown) => {
      throw unreadable(name, reasonOf(cause), undefined, cause);
    });
    try {
      return withChannels(pixelsOf(bitmap, name), channels, name);
    } finally {
      bitmap.close();
    }
  }
  if (!(picture instanceof Object)) throw unreadable(where, `it is ${picture}`, 'give files, bitmaps or pixels');
  return withChannels('data' in picture ? picture : pixelsOf(picture, where), channels, where);
}

/** What is known of the pictures, and what to do with them. */
export interface PictureSetOptions {
  /** For people. */
  readonly name?: string;
  /** Of all images (default 3: colour). */
  readonly channels?: 1 | 3;
  /** Class index of each picture, as many as there are pictures. */
  readonly labels?: ArrayLike<number>;
  readonly classes?: readonly string[];
  /** Larger images are reduced by a whole factor to at most this many pixels (default 160,000: 400 x 400). */
  readonly maxArea?: number;
  /** Leave out what cannot be decoded and report it, instead of failing. */
  readonly onBad?: (name: string, reason: string) => void;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Decodes pictures into a set for training or evaluation and keeps their pixels: 3 bytes each at most `maxArea` times.
 *
 * @throws SopError 65 for a picture that cannot be decoded (without `onBad`), 66 where none is left, 64 for another number of
 * labels than of pictures
 */
export async function pictureSet(pictures: readonly Picture[], options: PictureSetOptions = {}): Promise<ImageSet> {
  const { name = 'pictures', channels = 3, maxArea = 160_000, labels, classes = null, onBad, onProgress } = options;
  if (labels && labels.length !== pictures.length) {
    const why = `${labels.length} labels, ${pictures.length} pictures`;
    throw new SopError(ExitCode.usage, { what: 'labels do not fit', where: 'labels', why, fix: 'give as many' });
  }
  const decoded = new Array<DecodedImage | null>(pictures.length).fill(null);
  const nameOf = (index: number): string => {
    const picture = pictures[index];
    return picture instanceof File ? picture.webkitRelativePath || picture.name : `picture ${index}`;
  };
  let done = 0;
  await forEachParallel(pictures.length, AT_ONCE, async (index) => {
    try {
      decoded[index] = shrink(await decodePicture(pictures[index]!, channels, nameOf(index)), maxArea);
    } catch (error) {
      if (!onBad || !(error instanceof SopError)) throw error;
      onBad(nameOf(index), error.complaint.why);
    }
    onProgress?.(++done, pictures.length);
  });
  const kept = decoded.flatMap((image, index) => (image ? [{ image, index }] : []));
  if (kept.length === 0) {
    const why = pictures.length === 0 ? 'none was given' : 'none of the files given could be decoded';
    throw new SopError(ExitCode.noInput, { what: 'no images', where: name, why, fix: 'give JPEG, PNG or WebP images' });
  }
  return {
    name,
    channels,
    count: kept.length,
    labels: labels ? Int32Array.from(kept, ({ index }) => labels[index] ?? 0) : null,
    classes,
    files: kept.map(({ index }) => nameOf(index)),
    resident: null,
    async read(index) {
      checkIndex(name, kept.length, index);
      return kept[index]!.image;
    },
  };
}

/** RGBA of a bitmap, over white. */
function pixelsOf(bitmap: ImageBitmap, where: string): ImageData {
  const { width, height } = bitmap;
  if (width * height > PIXEL_LIMIT)
    throw unreadable(where, `it has ${width} x ${height} pixels, more than ${PIXEL_LIMIT}`);
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw unreadable(where, 'this browser gives no 2D canvas to decode it with');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height);
  try {
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (cause) {
    throw unreadable(where, reasonOf(cause), undefined, cause); // closed already
  }
}

/** Pixels of 1, 3 or 4 channels as 1 or 3. */
function withChannels({ width, height, data }: DecodedImage | ImageData, channels: 1 | 3, where: string): DecodedImage {
  const given = data.length / (width * height);
  if (given !== 1 && given !== 3 && given !== 4) {
    throw unreadable(where, `${data.length} bytes are no ${width} x ${height} pixels of 1, 3 or 4 channels`);
  }
  if (given === channels) return { width, height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
  const result = new Uint8Array(width * height * channels);
  for (let pixel = 0; pixel < width * height; pixel++) {
    const at = given * pixel;
    const white = given === 4 ? 255 - (data[at + 3] ?? 255) : 0;
    const over = (value: number): number => (white === 0 ? value : Math.round(value + ((255 - value) * white) / 255));
    const r = over(data[at] ?? 0);
    const [g, b] = given === 1 ? [r, r] : [over(data[at + 1] ?? 0), over(data[at + 2] ?? 0)];
    if (channels === 3) result.set([r, g, b], 3 * pixel);
    else result[pixel] = Math.round(0.299 * r + 0.587 * g + 0.114 * b);
  }
  return { width, height, data: result };
}

function unreadable(
  where: string,
  why: string,
  fix = 'leave it out, or save it again as JPEG, PNG or WebP',
  cause?: unknown,
) {
  return new SopError(ExitCode.data, { what: 'image cannot be decoded', where, why, fix }, { cause });
}
