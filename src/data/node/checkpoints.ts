import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ExitCode, SopError } from '../../errors.js';
import { type Checkpoint, checkpointMetadata, isNewer, readCheckpoint, stepOf } from '../checkpoint.js';
import type { Metadata, NamedArray } from '../safetensors.js';
import { readSafetensorsFile, readSafetensorsHeader, temporaryPattern, writeSafetensorsFile } from './files.js';
import { makeFolder } from './folders.js';
import { errorCode } from './io-errors.js';

/** Both hold the whole state of a run, so that either can be resumed from. */
export const checkpointNames = ['last', 'best'] as const;
export type CheckpointName = (typeof checkpointNames)[number];

export function checkpointPath(runFolder: string, name: CheckpointName): string {
  return join(runFolder, 'checkpoints', `${name}.safetensors`);
}

/**
 * Writes the state after `step` steps, with a checksum of every tensor, in place of the checkpoint of that name: until
 * the new one is safely on the disk the old one stays. The tensors must not change before it is done.
 *
 * @param confirm throws where the state turned out to be worth nothing, or its place taken, while it was written
 * @returns the path
 * @throws SopError 73, 74; the old checkpoint is whole then
 */
export async function saveCheckpoint(
  runFolder: string,
  name: CheckpointName,
  step: number,
  tensors: Iterable<NamedArray>,
  metadata: Metadata = [],
  confirm?: () => void | Promise<void>,
): Promise<string> {
  const path = checkpointPath(runFolder, name);
  await makeFolder(join(runFolder, 'checkpoints'));
  await writeSafetensorsFile(path, tensors, checkpointMetadata(step, metadata), {
    crc: true,
    ...(confirm && { confirm }),
  });
  return path;
}

export interface LoadedCheckpoint {
  readonly checkpoint: Checkpoint;
  readonly name: CheckpointName;
  readonly path: string;
  /** What people should know: which checkpoints were passed over, and why. */
  readonly notes: readonly string[];
}

/**
 * The checkpoint of a run with the highest step that is whole: checksums, finite values. A damaged one is passed over.
 *
 * @returns null if the run has none
 * @throws SopError 65 if there are only damaged ones, or one was written by a newer program: going back behind it
 * would lose it
 */
export async function loadNewestValid(runFolder: string): Promise<LoadedCheckpoint | null> {
  const { found, notes } = await listCheckpoints(runFolder);
  for (const { name, path } of found) {
    try {
      const checkpoint = readCheckpoint(await readSafetensorsFile(path), path);
      return { checkpoint, name, path, notes };
    } catch (error) {
      notes.push(passedOver(path, error));
    }
  }
  if (notes.length === 0) return null;
  throw noneUsable(runFolder, notes);
}

/**
 * Fails where the headers of a run's checkpoints tell that `loadNewestValid` would: cheap, so that it can be asked before images
 * are read and a device is opened.
 *
 * @throws SopError 65
 */
export async function checkCheckpoints(runFolder: string): Promise<void> {
  const { found, notes } = await listCheckpoints(runFolder);
  if (found.length === 0 && notes.length > 0) throw noneUsable(runFolder, notes);
}

/** The checkpoints of a run whose headers are whole, the newest first, and notes about the others. */
async function listCheckpoints(runFolder: string) {
  const notes: string[] = [];
  const found: { name: CheckpointName; path: string; step: number }[] = [];
  for (const name of checkpointNames) {
    const path = checkpointPath(runFolder, name);
    let newer = false;
    try {
      const { metadata } = await readSafetensorsHeader(path, (read) => {
        newer = isNewer(read);
        if (newer) stepOf(read, path);
      });
      found.push({ name, path, step: stepOf(metadata, path) });
    } catch (error) {
      if (newer) throw error;
      const cause = error instanceof SopError ? errorCode(error.cause) : '';
      if (cause !== 'ENOENT') notes.push(passedOver(path, error));
    }
  }
  // Of equal steps `last` stays first: the sort is stable.
  found.sort((a, b) => b.step - a.step);
  return { found, notes };
}

function passedOver(path: string, error: unknown): string {
  if (!(error instanceof SopError)) throw error;
  return `${path} was passed over: ${error.complaint.why}`;
}

function noneUsable(runFolder: string, notes: readonly string[]): SopError {
  return new SopError(ExitCode.data, {
    what: 'no usable checkpoint',
    where: runFolder,
    why: notes.join('; '),
    fix: 'restore one from a copy, or start a new run',
  });
}

/**
 * Removes what killed processes left half-written in a run folder. Only for who holds the folder's lock: then nothing
 * is being written there.
 *
 * @returns the files removed
 */
export async function removeStaleTemporaries(runFolder: string): Promise<string[]> {
  const removed: string[] = [];
  for (const folder of [runFolder, join(runFolder, 'checkpoints'), join(runFolder, 'export')]) {
    for (const name of await readdir(folder).catch(() => [])) {
      if (!temporaryPattern.test(name)) continue;
      await rm(join(folder, name), { force: true });
      removed.push(join(folder, name));
    }
  }
  return removed;
}
