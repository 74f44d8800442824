import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join } from 'node:path';
import { makeWithParents } from '../data/node/folders.js';

/** The user's folder; undefined for who has none: a number that no user of the system has, with no HOME in the environment. */
export function homeFolder(): string | undefined {
  try {
    const home = homedir();
    return isAbsolute(home) ? home : undefined;
  } catch {
    return undefined;
  }
}

/** Where files go that can be made again: `$XDG_CACHE_HOME/sop-gpu`, `~/.cache/sop-gpu`, or without a home a temporary folder. */
export function cacheFolder(): string {
  const asked = process.env['XDG_CACHE_HOME'];
  if (asked && isAbsolute(asked)) return join(asked, 'sop-gpu');
  const home = homeFolder();
  return home === undefined ? temporaryCache() : join(home, '.cache', 'sop-gpu');
}

/** A file of an archive; its name may have folders. */
export interface PackedFile {
  readonly name: string;
  readonly content: Uint8Array;
}

/** Names and sizes of what was unpacked, written last. */
const LIST = 'sizes.json';

/** True where every file is there in full, and none that is executed was cut by a full disk. */
function complete(folder: string): boolean {
  try {
    const sizes = JSON.parse(readFileSync(join(folder, LIST), 'utf8')) as Record<string, number>;
    return Object.entries(sizes).every(([name, size]) => statSync(join(folder, name)).size === size);
  } catch {
    return false;
  }
}

/** Unpacks into a folder of its own and renames it into place: two processes may do so at once, and either wins. */
function unpack(files: Iterable<PackedFile>, folder: string): void {
  const fresh = `${folder}.${process.pid}.${randomBytes(4).toString('hex')}`;
  mkdirSync(fresh, { mode: 0o700 });
  try {
    const sizes: Record<string, number> = {};
    for (const { name, content } of files) {
      mkdirSync(dirname(join(fresh, name)), { recursive: true, mode: 0o700 });
      writeFileSync(join(fresh, name), content, { mode: 0o755 });
      sizes[name] = content.length;
    }
    writeFileSync(join(fresh, LIST), JSON.stringify(sizes));
    try {
      renameSync(fresh, folder);
    } catch (error) {
      if (complete(folder)) return; // another process was faster
      if (!existsSync(folder)) throw error;
      rmSync(folder, { recursive: true, force: true }); // left half-finished or tampered with
      renameSync(fresh, folder);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/** Stands in for the cache folder where that cannot be written; it carries the user's id. */
export const temporaryCache = (): string => join(tmpdir(), `sop-gpu-${process.getuid?.() ?? 'user'}`);

/** Makes a folder that others cannot write to. @returns false where it is another user's @throws where it cannot be made */
export function ownFolder(folder: string): boolean {
  makeWithParents(folder, 0o700);
  return !process.getuid || statSync(folder).uid === process.getuid();
}

/**
 * The folder `name` with these files, unpacked once per user: in the cache folder, or in the system's temporary folder where
 * that cannot be written. Undefined where neither can, or the disk is full.
 */
export function unpackedFolder(name: string, files: () => Iterable<PackedFile>): string | undefined {
  for (const base of [cacheFolder(), temporaryCache()]) {
    const folder = join(base, name);
    try {
      // A folder that others can write to is no place to load code from.
      if (!ownFolder(base)) continue;
      if (!complete(folder)) unpack(files(), folder);
      return folder;
    } catch {} // not writable, or full: the next place
  }
  return undefined;
}
