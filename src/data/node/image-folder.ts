import { type Dirent, promises as fs } from 'node:fs';
import { join } from 'node:path';
import { ExitCode, SopError } from '../../errors.js';
import { counted } from '../../numbers.js';
import { imageExtensions } from './decode.js';
import { cannotRead } from './io-errors.js';

/** The images below a folder, sorted by code units so that every machine and locale agrees on their numbers. */
export interface ImageListing {
  readonly root: string;
  /** Relative to `root`, with forward slashes. */
  readonly files: readonly string[];
  /** Class per file, or null for a flat folder. */
  readonly labels: Int32Array | null;
  readonly classes: readonly string[] | null;
  /** What was left out, for people. */
  readonly notes: readonly string[];
}

const isImage = new RegExp(`\\.(${imageExtensions.join('|')})$`, 'i');
const deepest = 32;

/**
 * Lists a folder of class folders (each searched to any depth), or a flat folder of images. Where there are images both
 * in the folder itself and in folders below it, the larger part is the set, and a note says what was left out.
 * Hidden files and folders are skipped, other files counted.
 *
 * @throws SopError 66 if there is no image, or a folder cannot be read
 */
export async function listImages(root: string): Promise<ImageListing> {
  const own: string[] = [];
  const others: string[] = [];
  const classes: { name: string; files: string[] }[] = [];
  const empty: string[] = [];
  for (const entry of await readFolder(root)) {
    const kind = await kindOf(root, entry);
    if (kind === 'folder') {
      const files: string[] = [];
      await collect(root, entry.name, 1, files, others);
      if (files.length > 0) classes.push({ name: entry.name, files: files.sort() });
      else empty.push(entry.name);
    } else if (kind === 'file') (isImage.test(entry.name) ? own : others).push(entry.name);
  }
  const nested = classes.reduce((sum, { files }) => sum + files.length, 0);
  const notes: string[] = [];
  if (others.length > 0) {
    const count = counted(others.length, 'file that is no image', 'files that are no images');
    notes.push(`left out ${count} (${sample(others)})`);
  }
  if (own.length + nested === 0) {
    throw new SopError(ExitCode.noInput, {
      what: 'no images found',
      where: root,
      why: notes[0] ?? 'there are no files in it',
      fix: `give a folder of images (${imageExtensions.join(', ')}), of class folders, or of IDX or CIFAR binary files`,
    });
  }
  if (own.length >= nested) {
    if (nested > 0) notes.push(`left out ${counted(nested, 'image')} in folders below: the folder itself holds more`);
    return { root, files: own.sort(), labels: null, classes: null, notes };
  }
  if (own.length > 0) notes.push(`left out ${counted(own.length, 'image')} outside any class folder (${sample(own)})`);
  if (empty.length > 0) notes.push(`left out ${counted(empty.length, 'folder')} without images (${sample(empty)})`);
  classes.sort((a, b) => (a.name < b.name ? -1 : 1));
  const labels = new Int32Array(nested);
  let at = 0;
  classes.forEach(({ files }, label) => {
    labels.fill(label, at, at + files.length);
    at += files.length;
  });
  return {
    root,
    files: classes.flatMap(({ files }) => files),
    labels,
    classes: classes.map(({ name }) => name),
    notes,
  };
}

/** Entries of a folder that are not hidden. @throws SopError 66 */
export async function readFolder(path: string): Promise<Dirent[]> {
  const entries = await fs.readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    throw cannotRead(path, error);
  });
  return entries.filter(({ name }) => !name.startsWith('.'));
}

/**
 * What an entry is, behind symbolic links; null for what is neither file nor folder (pipes, sockets, devices). A link to nowhere
 * is a file that cannot be read, not nothing: who reads it says so.
 */
export async function kindOf(folder: string, entry: Dirent): Promise<'file' | 'folder' | null> {
  const info = entry.isSymbolicLink() ? await fs.stat(join(folder, entry.name)).catch(() => null) : entry;
  if (info === null) return 'file';
  return info.isFile() ? 'file' : info.isDirectory() ? 'folder' : null;
}

async function collect(root: string, below: string, depth: number, files: string[], others: string[]): Promise<void> {
  if (depth > deepest) {
    const why = `it is the ${deepest + 1}th folder in another, as where symbolic links go in a circle`;
    throw cannotRead(join(root, below), new Error(why), 'remove the link, or move its images up');
  }
  const folder = join(root, below);
  for (const entry of await readFolder(folder)) {
    const kind = await kindOf(folder, entry);
    const path = `${below}/${entry.name}`;
    if (kind === 'folder') await collect(root, path, depth + 1, files, others);
    else if (kind === 'file') (isImage.test(entry.name) ? files : others).push(path);
  }
}

function sample(names: readonly string[]): string {
  return names.length > 3 ? `${names.slice(0, 3).join(', ')}, ...` : names.join(', ');
}
