import { mkdirSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { cannotWrite, errorCode } from './io-errors.js';

/**
 * Makes a folder and those above it that are missing.
 *
 * @throws SopError (73) naming `path`
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    makeWithParents(path);
  } catch (error) {
    throw cannotWrite(path, error, 'create');
  }
}

/**
 * The same at once, with the system's own errors. Not Node's `recursive`, which never returns where a file system answers
 * ENOENT for a folder that cannot be made (/proc).
 *
 * @param mode permissions of the folders that are made (default those of the process)
 */
export function makeWithParents(path: string, mode?: number): void {
  const whole = resolve(path);
  try {
    makeOne(whole, mode);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' || dirname(whole) === whole) throw error;
    makeWithParents(dirname(whole), mode);
    makeOne(whole, mode);
  }
}

/** Makes one folder; one that is there already is fine. */
function makeOne(path: string, mode: number | undefined): void {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // A file of that name is found by whoever writes into the folder; here a link to a folder must pass.
    if (errorCode(error) !== 'EEXIST') throw error;
  }
}
