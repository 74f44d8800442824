import { closeSync, constants, openSync } from 'node:fs';

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
  const copy = silenced ? reopen('/proc/self/fd/2') : null;
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

/** The file behind a descriptor, opened anew; null for sockets, which cannot be. */
function reopen(path: string): number | null {
  try {
    return openSync(path, constants.O_WRONLY | constants.O_APPEND);
  } catch {
    return null;
  }
}
