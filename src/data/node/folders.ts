import { mkdir } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { cannotWrite, errorCode } from './io-errors.js';

/**
 * Makes a folder and those above it that are missing. Not Node's `recursive`, which never returns where a file system
 * answers ENOENT for a folder that cannot be made (/proc).
 *
 * @throws SopError (73) naming `path`
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await makeWithParents(resolve(path));
  } catch (error) {
    throw cannotWrite(path, error, 'create');
  }
}

async function makeWithParents(path: string): Promise<void> {
  const error = await makeOne(path);
  if (error === undefined) return;
  if (errorCode(error) !== 'ENOENT' || dirname(path) === path) throw error;
  await makeWithParents(dirname(path));
  const again = await makeOne(path);
  if (again !== undefined) throw again;
}

/** The error that making one folder ended with; a folder that is there already is none. */
async function makeOne(path: string): Promise<unknown> {
  try {
    await mkdir(path);
    return undefined;
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') return error;
    // A file of that name is found by whoever writes into the folder; here a link to a folder must pass.
    return undefined;
  }
}
