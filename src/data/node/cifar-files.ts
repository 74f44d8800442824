import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type CifarKind, cifarKinds, cifarSide, malformedCifar, parseCifar } from '../cifar.js';
import { type DataSplits, type ImageSet, residentSet } from '../dataset.js';
import { cannotRead } from './io-errors.js';

const batchName = /^data_batch_(\d+)\.bin$/;

/** Which CIFAR set the files of a folder are, if any. @throws SopError 65 for the Python version, which is pickled */
export function cifarKindOf(folder: string, names: readonly string[]): CifarKind | null {
  if (names.some((name) => batchName.test(name))) return 'CIFAR-10';
  if (names.includes('train.bin')) return 'CIFAR-100';
  if (names.includes('data_batch_1') || (names.includes('train') && names.includes('meta') && names.includes('test'))) {
    throw malformedCifar(
      folder,
      'it is the Python version of CIFAR: pickles can run code when they are read and are never opened here',
      'download the binary version',
    );
  }
  return null;
}

/**
 * Opens a folder of CIFAR binary files; the test file may be missing.
 *
 * @throws SopError 65 malformed, 66 unreadable or a batch missing between others
 */
export async function openCifar(folder: string, names: readonly string[], kind: CifarKind): Promise<DataSplits> {
  const parts = names
    .flatMap((name) => batchName.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
  const train = kind === 'CIFAR-10' ? parts.map((_, i) => `data_batch_${i + 1}.bin`) : ['train.bin'];
  const test = kind === 'CIFAR-10' ? 'test_batch.bin' : 'test.bin';
  const classes = await classNames(folder, names, kind);
  return {
    train: await readSet(folder, train, kind, `${kind}, train`, classes),
    test: names.includes(test) ? await readSet(folder, [test], kind, `${kind}, test`, classes) : null,
  };
}

async function readSet(
  folder: string,
  files: readonly string[],
  kind: CifarKind,
  name: string,
  classes: readonly string[],
): Promise<ImageSet> {
  const parts = [];
  for (const file of files) {
    const where = join(folder, file);
    const bytes = await readFile(where).catch((error: unknown) => {
      throw cannotRead(where, error);
    });
    parts.push(parseCifar(bytes, kind, where));
  }
  const count = parts.reduce((sum, part) => sum + part.labels.length, 0);
  const labels = new Int32Array(count);
  const pixels = new Uint8Array(count * 3 * cifarSide * cifarSide);
  let at = 0;
  for (const part of parts) {
    labels.set(part.labels, at);
    pixels.set(part.pixels, at * 3 * cifarSide * cifarSide);
    at += part.labels.length;
  }
  return residentSet({ name, channels: 3, width: cifarSide, height: cifarSide, pixels, labels, classes });
}

/** Names from the text file of the download, or else numbers. */
async function classNames(folder: string, names: readonly string[], kind: CifarKind): Promise<readonly string[]> {
  const file = kind === 'CIFAR-10' ? 'batches.meta.txt' : 'fine_label_names.txt';
  const count = cifarKinds[kind].classes;
  if (names.includes(file)) {
    const where = join(folder, file);
    const text = await readFile(where, 'utf8').catch((error: unknown) => {
      throw cannotRead(where, error);
    });
    const lines = text.split('\n').map((line) => line.trim());
    const found = lines.filter((line) => line !== '');
    if (found.length === count) return found;
  }
  return Array.from({ length: count }, (_, i) => String(i));
}
