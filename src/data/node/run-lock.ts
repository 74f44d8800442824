import { readFileSync, rmSync } from 'node:fs';
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { ExitCode, SopError } from '../../errors.js';
import { makeFolder } from './folders.js';
import { cannotWrite, errorCode } from './io-errors.js';

/** Says who uses a run folder; present only while somebody does. */
export const lockName = 'run.lock';

export interface RunLock {
  /** What people should know: whose lock was taken over. */
  readonly note: string | null;
  /** Takes the folder again where the lock went away with it. @throws SopError 73, 74 as `lockFolder` */
  renew(): Promise<void>;
  /** Frees the folder, unless another process has it now. Also done when the process exits by itself. */
  release(): void;
}

interface Owner {
  readonly pid: number;
  readonly host: string;
  /** Start of the process in clock ticks since boot (Linux): numbers of processes are used again. */
  readonly started: string | null;
}

/** Locks of this process, so that its own number in a file of an earlier process (containers!) is told from a live one. */
const held = new Set<string>();
/** An empty lock is being written, or was left by a crash in just that moment. */
const settledMs = 5000;

/**
 * Takes a run folder for this process, making it if need be. A lock whose process is gone is taken over.
 *
 * @throws SopError 73 if another process uses the folder or it cannot be created, 74 if the disk is full
 */
export async function lockFolder(folder: string): Promise<RunLock> {
  const path = join(resolve(folder), lockName);
  await makeFolder(folder);
  const me: Owner = { pid: process.pid, host: hostname(), started: await startOf(process.pid) };
  const mine = `${JSON.stringify(me)}\n`;
  const note = await acquire(folder, path, mine);
  held.add(path);
  const free = (): void => {
    try {
      if (isMine(path, mine)) rmSync(path, { force: true });
    } catch {} // on a disk that became read-only; once this process is gone, the next one takes it over
  };
  process.once('exit', free);
  return {
    note,
    renew: async () => {
      if (isMine(path, mine)) return;
      await makeFolder(folder);
      await acquire(folder, path, mine);
    },
    release: () => {
      if (!held.delete(path)) return;
      process.removeListener('exit', free);
      free();
    },
  };
}

/** Writes the lock. @returns a note about one that was in the way */
async function acquire(folder: string, path: string, mine: string): Promise<string | null> {
  let note: string | null = null;
  // Each turn either wins, throws, or clears one stale lock away; several processes may be at it.
  for (let turn = 0; turn < 10; turn++) {
    if (await create(path, mine)) return note;
    note = (await clearStale(folder, path)) ?? note;
  }
  throw inUse(folder, 'other processes keep taking it', 'choose another output folder');
}

function isMine(path: string, mine: string): boolean {
  try {
    return readFileSync(path, 'utf8') === mine;
  } catch {
    return false;
  }
}

async function create(path: string, text: string): Promise<boolean> {
  const file = await open(path, 'wx').catch((error: unknown) => {
    if (errorCode(error) === 'EEXIST') return null;
    throw cannotWrite(path, error, 'create');
  });
  if (file === null) return false;
  try {
    await file.writeFile(text);
  } catch (error) {
    await rm(path, { force: true });
    throw cannotWrite(path, error, 'write');
  } finally {
    await file.close();
  }
  return true;
}

/** Removes the lock if its owner is gone. @returns a note about it, or null if it vanished by itself */
async function clearStale(folder: string, path: string): Promise<string | null> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return null;
    throw inUse(folder, `its lock cannot be read (${errorCode(error)})`, `if no run uses it, remove ${path}`);
  });
  const age = await stat(path).then(
    // A clock that was set back makes it a time to come.
    ({ mtimeMs }) => Math.abs(Date.now() - mtimeMs),
    () => null,
  );
  if (text === null || age === null) return null;
  const owner = parseOwner(text);
  if (owner ? await isAlive(owner, path) : age < settledMs) {
    const who = owner ? `process ${owner.pid} on ${owner.host}` : 'another process';
    const away = owner && owner.host !== hostname();
    throw inUse(
      folder,
      `${who} uses it`,
      away ? `if that run is over, remove ${path}` : 'wait for it, or choose another output folder',
    );
  }
  // Another process may have taken the stale lock over since it was read: then what is moved here is a live one.
  const aside = `${path}.${process.pid}`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return null;
  const unchanged = (await readFile(aside, 'utf8').catch(() => null)) === text;
  if (!unchanged) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
  if (!unchanged) return null;
  const who = owner ? `process ${owner.pid} on ${owner.host}, which is gone` : 'a process that was killed';
  return `took over the lock of ${who}`;
}

function parseOwner(text: string): Owner | null {
  try {
    const { pid, host, started } = JSON.parse(text) as Partial<Record<string, unknown>>;
    if (!Number.isSafeInteger(pid) || (pid as number) <= 0 || typeof host !== 'string') return null;
    return { pid: pid as number, host, started: typeof started === 'string' ? started : null };
  } catch {
    return null;
  }
}

async function isAlive(owner: Owner, path: string): Promise<boolean> {
  if (owner.host !== hostname()) return true;
  if (owner.pid === process.pid) return held.has(path);
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  const started = await startOf(owner.pid);
  return started === null || owner.started === null || started === owner.started;
}

/** When a process started, as far as /proc tells (field 22; the name before it may hold spaces and brackets). */
async function startOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

function inUse(folder: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.cannotCreate, { what: 'run folder in use', where: folder, why, fix });
}
