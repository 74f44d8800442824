import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';

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
 * Calls `body`, which must do its native work before it returns, with what it prints to stderr thrown away. The system
 * gives a new file the lowest free number: closing 2 and opening another file puts that in its place.
 */
export function withoutChatter<T>(body: () => T): T {
  const copy = silenced && !sharesOffset() ? reopen('/proc/self/fd/2') : null;
  if (copy === null) return body();
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
 * Whether stderr is a file in which each writer goes on where the one before it stopped (`2> file`, not `2>> file`): opened
 * anew it would have a place of its own, and the next program of a script would write over what we said.
 */
function sharesOffset(): boolean {
  if (!fstatSync(2).isFile()) return false;
  const [, flags] = /^flags:\s*([0-7]+)/m.exec(readFileSync('/proc/self/fdinfo/2', 'utf8')) ?? [];
  return (Number.parseInt(flags ?? '0', 8) & constants.O_APPEND) === 0;
}

/** The file behind a descriptor, opened anew; null for sockets, which cannot be. */
function reopen(path: string): number | null {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_APPEND);
  } catch {
    return null;
  }
}
