import { spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Dawn prints two warnings about limits that we do not use whenever it looks at lavapipe, straight to stderr and with no
 * way to turn them off. A command whose stderr scripts read (one line for an error, else nothing) keeps them out.
 */
let silenced = false;

/**
 * From now on `withoutChatter` works. For a program's own start: for a moment no file may be opened by anyone else, which
 * a library cannot promise.
 */
export function silenceDrivers(): void {
  silenced = process.platform === 'linux';
}

/**
 * Calls `body`, which must do its native work before it returns, and keeps what Dawn prints meanwhile out of stderr,
 * whatever that is: a terminal, a pipe, a file, a socket.
 */
export function withoutChatter<T>(body: () => T): T {
  if (!silenced) return body();
  const at = sharedPlace();
  if (at !== null) {
    try {
      return body();
    } finally {
      takeBack(at);
    }
  }
  const flags = constants.O_WRONLY | constants.O_APPEND;
  const copy = reopen('/proc/self/fd/2', flags) ?? (pipeThrough() ? reopen('/proc/self/fd/2', flags) : null);
  if (copy === null) return body();
  // The system gives a new file the lowest free number: closing 2 and opening another file puts that in its place.
  closeSync(2);
  openSync('/dev/null', 'w');
  try {
    return body();
  } finally {
    closeSync(2);
    openSync(`/proc/self/fd/${copy}`, constants.O_WRONLY | constants.O_APPEND);
    closeSync(copy);
  }
}

/**
 * Where stderr stands in a plain file in which each writer goes on where the one before it stopped (`2> file`, not `2>>
 * file`); else null. Opened anew such a file would have a place of its own, and the next program of a script would write
 * over what we said.
 */
function sharedPlace(): number | null {
  if (!fstatSync(2).isFile()) return null;
  const [, place, flags] = /^pos:\s*(\d+)\s+flags:\s*([0-7]+)/m.exec(readFileSync('/proc/self/fdinfo/2', 'utf8')) ?? [];
  if (place === undefined || flags === undefined) return null;
  return (Number.parseInt(flags, 8) & constants.O_APPEND) === 0 ? Number(place) : null;
}

/** Lines as Dawn writes them; its reasons follow on lines of their own. */
const CHATTER = /^Warning: .*\n(?: - .*\n)*/gm;

/** Removes Dawn's lines from the end of the file behind stderr, from `start` on, and goes back in it. */
function takeBack(start: number): void {
  const end = sharedPlace();
  // Where more was written behind our place, or there is nothing to read, the lines stay.
  if (end === null || end <= start || end !== fstatSync(2).size) return;
  const file = reopen('/proc/self/fd/2', constants.O_RDONLY);
  if (file === null) return;
  const written = Buffer.alloc(end - start);
  const count = readSync(file, written, 0, written.length, start);
  closeSync(file);
  const rest = written.subarray(0, count).toString('latin1').replace(CHATTER, '');
  if (rest.length === written.length || !seek(start)) return;
  if (rest !== '') writeSync(2, rest, null, 'latin1');
  ftruncateSync(2, start + rest.length);
}

/** Moves the place of stderr in its file, for all who share it. Node can do that through its WASI alone. */
function seek(place: number): boolean {
  const { emitWarning } = process;
  process.emitWarning = () => undefined; // that WASI is experimental
  try {
    const wasi = new (process.getBuiltinModule('node:wasi').WASI)({ version: 'preview1' });
    wasi.initialize({ exports: { memory: new WebAssembly.Memory({ initial: 1 }) } });
    const calls = wasi.getImportObject() as { wasi_snapshot_preview1: { fd_seek(...values: unknown[]): number } };
    const [fromStart, newPlaceTo] = [0, 0];
    return calls.wasi_snapshot_preview1.fd_seek(2, BigInt(place), fromStart, newPlaceTo) === 0;
  } catch {
    return false; // a Node without it: the lines stay
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Milliseconds that `cat` is waited for, to begin and to end. */
const PATIENCE = 2000;

/**
 * A socket (Node's pipes to its children, the journal of systemd) cannot be opened anew, nor can a pipe that belongs to another
 * user (`docker run --user`, `sudo -u`), and what was sent cannot be taken back. So from now on stderr is a named pipe of ours,
 * and `cat`, a process that no signal of ours reaches, writes what comes out of it to where stderr went.
 * @returns false where stderr is a terminal or a file, or this cannot be done
 */
function pipeThrough(): boolean {
  const kind = fstatSync(2);
  if (!kind.isSocket() && !kind.isFIFO()) return false;
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), 'sop-gpu-stderr-'));
    const pipe = join(folder, 'pipe');
    if (spawnSync('mkfifo', ['-m', '600', pipe]).status !== 0) return false;
    const script = `trap '' INT TERM HUP QUIT USR1 USR2; exec cat "$1" >&2`;
    const copier = spawn('sh', ['-c', script, 'sh', pipe], { stdio: ['ignore', 'ignore', 'inherit'], detached: true });
    copier.on('error', () => undefined);
    copier.unref();
    // Without waiting for a reader, who may never come, that it is there shows in that opening succeeds.
    const waiting = constants.O_WRONLY | constants.O_NONBLOCK;
    const writer = waitFor(() => reopen(pipe, waiting));
    if (writer === null) return false;
    closeSync(2);
    openSync(pipe, constants.O_WRONLY | constants.O_APPEND);
    closeSync(writer);
    // Who waits for the end of this process finds all of stderr.
    process.on('exit', () => {
      closeSync(2);
      openSync('/dev/null', 'w');
      waitFor(() => ended(copier.pid));
    });
    return true;
  } catch {
    return false; // no folder for temporary files, no shell: the lines stay
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

/** Asks every millisecond until there is an answer. */
function waitFor<T>(ask: () => T | null): T | null {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  const end = performance.now() + PATIENCE;
  for (let answer = ask(); ; answer = ask()) {
    if (answer !== null || performance.now() > end) return answer;
    Atomics.wait(clock, 0, 0, 1);
  }
}

/** True for a child that has ended, whether Node knows already or not; else null. */
function ended(pid: number | undefined): true | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).startsWith('Z') ? true : null;
  } catch {
    return true;
  }
}

/** The file behind a descriptor, opened anew; null where it cannot be. */
function reopen(path: string, flags: number): number | null {
  try {
    return openSync(path, flags);
  } catch {
    return null;
  }
}
