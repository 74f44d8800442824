import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { ExitCode, reasonOf, SopError } from '../../errors.js';
import type { DecodedImage } from '../dataset.js';
import { withFile } from './files.js';
import { cannotRead, errorCode } from './io-errors.js';

export const imageExtensions = ['jpg', 'jpeg', 'png', 'webp', 'avif', 'gif', 'tif', 'tiff'] as const;

/** Largest number of pixels of an image that is decoded, unless an option says otherwise. */
export const defaultPixelLimit = 100e6;

/** What a file says about its image without being decoded: size as it will be read (turned upright). */
export interface ImageInfo {
  readonly width: number;
  readonly height: number;
  readonly grey: boolean;
}

let prepared = false;

/** Images are many and small: one thread each, many at a time, and no cache that grows. */
function prepare(): void {
  if (prepared) return;
  sharp.concurrency(1);
  sharp.cache(false);
  prepared = true;
}

/**
 * Size and kind of an image, from its header: the rest of the file is not read.
 *
 * @throws SopError 65 malformed or too large, 66 unreadable
 */
export async function imageInfo(path: string, pixelLimit = defaultPixelLimit): Promise<ImageInfo> {
  const start = Buffer.alloc(12);
  const { bytesRead } = await withFile(path, async (file) => file.read(start, 0, start.length, 0));
  checkStart(start.subarray(0, bytesRead), path);
  return infoOf(path, path, pixelLimit);
}

/**
 * Decodes one image to 8-bit sRGB (`channels` 3) or grey (1).
 *
 * As torchvision's default loader (`Image.open(path).convert('RGB')`) it takes the first frame of an animation and
 * drops transparency, keeping the colours beneath it: a feature means what it means for weights that were trained
 * there. Unlike it, photographs are turned upright by their EXIF orientation, colour profiles and CMYK are converted to
 * sRGB, and 16-bit values are scaled, not clipped: what a person would see.
 *
 * @throws SopError 65 with path and reason for what is malformed, truncated or too large; 66 for what cannot be read
 */
export async function decodeImage(
  path: string,
  channels: 1 | 3,
  pixelLimit = defaultPixelLimit,
): Promise<DecodedImage> {
  const bytes = await readImageFile(path);
  await infoOf(bytes, path, pixelLimit);
  try {
    const { data, info } = await sharp(bytes, { limitInputPixels: pixelLimit, failOn: 'error' })
      .autoOrient()
      .removeAlpha()
      .toColourspace(channels === 1 ? 'b-w' : 'srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== channels) throw new Error(`it decodes to ${info.channels} channels instead of ${channels}`);
    return { width: info.width, height: info.height, data };
  } catch (error) {
    throw badImage(path, reasonOf(error), error);
  }
}

async function readImageFile(path: string): Promise<Buffer> {
  const bytes = await readFile(path).catch((error: unknown) => {
    // A file beyond 2 GiB exists and is readable; it is its content that is out of bounds.
    throw errorCode(error) === 'ERR_FS_FILE_TOO_LARGE'
      ? badImage(path, reasonOf(error), error)
      : cannotRead(path, error);
  });
  checkStart(bytes, path);
  return bytes;
}

/** By content, not by name: libvips would also run its readers of SVG, PDF and others on a renamed file. */
function checkStart(bytes: Buffer, path: string): void {
  if (bytes.length === 0) throw badImage(path, 'it is empty');
  const start = bytes.toString('latin1', 0, 12);
  const known =
    start.startsWith('\xff\xd8\xff') ||
    start.startsWith('\x89PNG\r\n\x1a\n') ||
    /^GIF8[79]a/.test(start) ||
    /^RIFF.{4}WEBP/s.test(start) ||
    /^.{4}ftyp/s.test(start) ||
    /^(II[*+]\0|MM\0[*+])/.test(start);
  if (!known) throw badImage(path, 'its content is no JPEG, PNG, WebP, AVIF, GIF or TIFF image');
}

async function infoOf(source: Buffer | string, path: string, pixelLimit: number): Promise<ImageInfo> {
  prepare();
  const header = await sharp(source, { limitInputPixels: false })
    .metadata()
    .catch((error: unknown) => {
      throw badImage(path, reasonOf(error), error);
    });
  const { width, height } = header.autoOrient;
  if (width * height > pixelLimit) {
    throw badImage(path, `its header says ${width} x ${height} pixels, more than the ${pixelLimit} allowed`);
  }
  return { width, height, grey: header.space === 'b-w' || header.space === 'grey16' };
}

function badImage(path: string, reason: string, cause?: unknown): SopError {
  // libvips keeps one text for all its threads, and loses it at times.
  const why = reason === 'Unknown error' ? 'it is damaged or cut off' : reason.split('\n')[0]!.replace(/[\s:]+$/, '');
  const fix = 'replace or remove it, or leave such files out with --on-bad-image skip';
  return new SopError(ExitCode.data, { what: 'image cannot be decoded', where: path, why, fix }, { cause });
}
