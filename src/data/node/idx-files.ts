import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { createGunzip } from 'node:zlib';
import { SopError } from '../../errors.js';
import { counted } from '../../numbers.js';
import { type DataSplits, type ImageSet, residentSet } from '../dataset.js';
import { idxHeaderBytes, malformedIdx, parseIdxHeader } from '../idx.js';
import { readFully, withFile } from './files.js';
import { cannotRead, errorCode } from './io-errors.js';

/** `train-images-idx3-ubyte.gz`, `t10k-images.idx3-ubyte`, `emnist-letters-test-images-idx3-ubyte`. */
const imagesName = /^(.*?)(train|t10k|test)-images([-.])idx[34]-ubyte(\.gz)?$/;

/** Whether a file is named as the images of an IDX set are. */
export function isIdxImages(name: string): boolean {
  return imagesName.test(name);
}

/**
 * Opens the IDX files of a folder, plain or gz: train and, if there, t10k (or test), each with its labels if there.
 * Given one file of images it opens that split alone.
 *
 * @param classes names of the labels, where they are known
 * @throws SopError 65 malformed or truncated, or several sets in the folder; 66 missing or unreadable
 */
export async function openIdx(
  path: string,
  names: readonly string[],
  title: string,
  classes?: readonly string[],
): Promise<DataSplits> {
  const images = names.filter(isIdxImages);
  const find = (splits: readonly string[]): string | undefined => {
    const found = images.filter((name) => splits.includes(imagesName.exec(name)![2]!));
    // The same file may lie there packed and unpacked.
    const plain = [...new Set(found.map((name) => name.replace(/\.gz$/, '')))];
    if (plain.length > 1) {
      throw malformedIdx(
        path,
        `the folder holds several sets: ${plain.join(', ')}`,
        'give the path of one file of images',
      );
    }
    return found.find((name) => !name.endsWith('.gz')) ?? found[0];
  };
  const train = find(['train']);
  const test = find(['t10k', 'test']);
  const open = (file: string, split: string): Promise<ImageSet> =>
    openSplit(path, file, names, `${title}, ${split}`, classes);
  if (!train) return { train: await open(test!, 'test'), test: null };
  return { train: await open(train, 'train'), test: test ? await open(test, 'test') : null };
}

/** One file of images, with the labels that lie beside it. */
export async function openIdxFile(file: string): Promise<ImageSet> {
  const folder = dirname(file);
  const names = await readdir(folder).catch((error: unknown) => {
    throw cannotRead(folder, error);
  });
  return openSplit(folder, basename(file), names, basename(file));
}

async function openSplit(
  folder: string,
  file: string,
  names: readonly string[],
  name: string,
  classNames?: readonly string[],
): Promise<ImageSet> {
  const images = await readIdx(join(folder, file), 'images');
  const [count, height, width, channels = 1] = images.shape;
  const plain = file
    .replace('-images', '-labels')
    .replace(/idx[34]/, 'idx1')
    .replace(/\.gz$/, '');
  const labelFile = [plain, `${plain}.gz`].find((candidate) => names.includes(candidate));
  let labels: Int32Array | null = null;
  let classes: readonly string[] | null = null;
  if (labelFile) {
    const where = join(folder, labelFile);
    const { data } = await readIdx(where, 'labels');
    if (data.length !== count)
      throw malformedIdx(where, `it holds ${counted(data.length, 'label')} for ${counted(count!, 'image')}`);
    labels = Int32Array.from(data);
    const largest = labels.reduce((most, label) => Math.max(most, label), 0);
    classes = classNames ?? Array.from({ length: largest + 1 }, (_, i) => String(i));
    if (largest >= classes.length) {
      throw malformedIdx(where, `it holds the label ${largest}, but there are ${classes.length} classes`);
    }
  }
  return residentSet({
    name,
    channels: channels as 1 | 3,
    width: width!,
    height: height!,
    pixels: images.data,
    labels,
    classes,
  });
}

/**
 * Reads one file. Never more memory is taken than its header says, and that is believed only as far as the file's own
 * length can bear it: a gz bomb stops at the first byte too many.
 *
 * @throws SopError 65, 66
 */
async function readIdx(
  path: string,
  kind: 'images' | 'labels',
): Promise<{ readonly shape: readonly number[]; readonly data: Uint8Array }> {
  const { shape, data } = path.endsWith('.gz') ? await readPacked(path, kind) : await readPlain(path, kind);
  if (shape[0] === 0) throw cannotRead(path, new Error(`it holds no ${kind}`), 'download it again');
  return { shape, data };
}

async function readPlain(path: string, kind: 'images' | 'labels') {
  return withFile(path, async (file, bytes) => {
    const start = new Uint8Array(Math.min(idxHeaderBytes, bytes));
    await readFully(file, start, 0);
    const { shape, dataStart, dataBytes } = parseIdxHeader(start, kind, path);
    if (bytes !== dataStart + dataBytes) {
      throw malformedIdx(path, `its header says ${shape.join(' x ')}: ${dataStart + dataBytes} bytes, it has ${bytes}`);
    }
    const data = new Uint8Array(dataBytes);
    if (!(await readFully(file, data, dataStart))) throw malformedIdx(path, 'it became shorter while it was read');
    return { shape, data };
  });
}

/** Deflate packs at most about 1,032 bytes into one. */
const bestPacking = 1040;

async function readPacked(path: string, kind: 'images' | 'labels') {
  const { size } = await stat(path).catch((error: unknown) => {
    throw cannotRead(path, error);
  });
  let start = new Uint8Array(0);
  let shape: readonly number[] | undefined;
  let data = new Uint8Array(0);
  let at = 0;
  const take = (chunk: Uint8Array): void => {
    if (at + chunk.length > data.length)
      throw malformedIdx(path, `it unpacks to more than the ${data.length} bytes its header says`);
    data.set(chunk, at);
    at += chunk.length;
  };
  const readHeader = (end: boolean, chunk: Uint8Array): void => {
    start = Buffer.concat([start, chunk]);
    if (start.length < idxHeaderBytes && !end) return;
    const header = parseIdxHeader(start, kind, path);
    if (header.dataBytes > size * bestPacking) {
      throw malformedIdx(
        path,
        `its header says ${header.shape.join(' x ')}, too much for ${size} packed bytes: it is cut off`,
      );
    }
    shape = header.shape;
    data = new Uint8Array(header.dataBytes);
    take(start.subarray(header.dataStart));
  };
  const packed = createReadStream(path);
  const unpacked = createGunzip();
  try {
    packed.on('error', (error) => unpacked.destroy(error)).pipe(unpacked);
    for await (const chunk of unpacked as AsyncIterable<Uint8Array>) {
      if (shape) take(chunk);
      else readHeader(false, chunk);
    }
    if (!shape) readHeader(true, new Uint8Array(0));
  } catch (error) {
    if (error instanceof SopError) throw error;
    if (errorCode(error) === 'Z_BUF_ERROR') throw malformedIdx(path, 'the gz file is cut off');
    if (errorCode(error).startsWith('Z_')) throw malformedIdx(path, `it is no valid gz file (${errorCode(error)})`);
    throw cannotRead(path, error);
  } finally {
    packed.destroy();
  }
  if (at !== data.length)
    throw malformedIdx(path, `its header says ${shape!.join(' x ')}: ${data.length} bytes, it has ${at}`);
  return { shape: shape!, data };
}
