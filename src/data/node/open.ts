import { stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { ExitCode, SopError } from '../../errors.js';
import type { DataSplits } from '../dataset.js';
import { cifarKindOf, openCifar } from './cifar-files.js';
import { type FashionMnistPlaces, openFashionMnist } from './fashion-mnist.js';
import { type FolderOptions, folderSet, scanFolder } from './folder-set.js';
import { isIdxImages, openIdx, openIdxFile } from './idx-files.js';
import { type ImageListing, kindOf, listImages, readFolder } from './image-folder.js';
import { cannotRead } from './io-errors.js';

export interface OpenOptions extends FolderOptions {
  /** Where the name `fashion-mnist` is looked for. */
  readonly fashionMnist?: FashionMnistPlaces;
}

/** What `--data` takes beside paths. A folder of that name in the working folder is meant by `./fashion-mnist`. */
const knownNames = ['fashion-mnist'] as const;

/** Folders beside `train` that hold the test images; of several the first: `test` often comes without labels. */
const testFolders = ['val', 'test'] as const;

/**
 * Opens what `--data` names: `fashion-mnist`, a folder of IDX files, of CIFAR binaries, of class folders, of images,
 * or of `train/` and `val/` or `test/` with these; or one IDX file of images.
 *
 * @throws SopError 65 malformed, 66 missing, unreadable or without images; see `FolderOptions.onBadImage`
 */
export async function openDataset(pathOrName: string, options: OpenOptions = {}): Promise<DataSplits> {
  const located = await locate(pathOrName, options);
  if (located.kind === 'open') return located.splits;
  const { train, test } = located;
  const scans = { train: await scanFolder(train, options), test: test && (await scanFolder(test, options)) };
  const channels = scans.train.grey && (scans.test?.grey ?? true) ? 1 : 3;
  for (const listing of test ? [train, test] : [train]) {
    for (const note of listing.notes) options.onNote?.(`${listing.root}: ${note}`);
  }
  const title = basename(resolve(pathOrName));
  return {
    train: await folderSet(test ? `${title}, train` : title, train, scans.train, channels, options),
    test: test && scans.test && (await folderSet(`${title}, test`, test, scans.test, channels, options)),
  };
}

/** Sets of binary files are read when they are found, folders of images only listed. */
export type Located =
  | { readonly kind: 'open'; readonly splits: DataSplits }
  | { readonly kind: 'folders'; readonly train: ImageListing; readonly test: ImageListing | null };

/** Finds out what a path or name is. @throws SopError 65, 66 as `openDataset` */
export async function locate(pathOrName: string, options: Pick<OpenOptions, 'fashionMnist'> = {}): Promise<Located> {
  const path = pathOrName;
  if ((knownNames as readonly string[]).includes(path)) {
    return { kind: 'open', splits: await openFashionMnist(options.fashionMnist) };
  }
  const info = await stat(path).catch((error: unknown) => {
    throw cannotRead(path, error, `check the path, or use a known name (${knownNames.join(', ')})`);
  });
  if (info.isFile() && isIdxImages(basename(path))) {
    return { kind: 'open', splits: { train: await openIdxFile(path), test: null } };
  }
  if (!info.isDirectory()) {
    throw new SopError(ExitCode.noInput, {
      what: 'cannot use as a data set',
      where: path,
      why: 'it is neither a folder nor an IDX file of images',
      fix: 'give the folder that holds the images (unpack an archive first)',
    });
  }
  const entries = await readFolder(path);
  const names = entries.map(({ name }) => name);
  const files = (
    await Promise.all(entries.map(async (entry) => ((await kindOf(path, entry)) === 'file' ? entry.name : [])))
  ).flat();
  if (files.some(isIdxImages)) return { kind: 'open', splits: await openIdx(path, files, basename(resolve(path))) };
  const cifar = cifarKindOf(path, files);
  if (cifar) return { kind: 'open', splits: await openCifar(path, files, cifar) };
  const isFolder = (name: string): boolean => names.includes(name) && !files.includes(name);
  if (!isFolder('train')) return { kind: 'folders', train: await listImages(path), test: null };
  const train = await listImages(join(path, 'train'));
  const test = testFolders.find(isFolder);
  return {
    kind: 'folders',
    train,
    test: test ? withClassesOf(train, await listImages(join(path, test))) : null,
  };
}

/** Numbers the classes of the test set as the training set does, by name. */
function withClassesOf(train: ImageListing, test: ImageListing): ImageListing {
  if (!train.classes || !test.classes || !test.labels) return test;
  const numbers = test.classes.map((name) => train.classes!.indexOf(name));
  const unknown = numbers.indexOf(-1);
  if (unknown >= 0) {
    throw new SopError(ExitCode.data, {
      what: 'class without training images',
      where: join(test.root, test.classes[unknown]!),
      why: `${train.root} has no folder of that name with images`,
      fix: 'give both splits the same class folders',
    });
  }
  return { ...test, classes: train.classes, labels: test.labels.map((label) => numbers[label]!) };
}
