import { closeSync, writeSync } from 'node:fs';
import { cannotWrite, errorCode } from '../data/node/io-errors.js';
import type { SopError } from '../errors.js';

/** A disk that takes no more: what was said is missing somewhere. A reader that went away or a closed terminal misses nothing. */
const full: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

let told: ((failure: SopError) => void) | undefined;

/** Writing to stdout or stderr failed. Of stderr nobody could be told. */
const failed = (name: 'stdout' | 'stderr') => (error: unknown) => {
  if (name === 'stdout' && full.has(errorCode(error))) told?.(cannotWrite(name, error, 'write'));
};
const handlers = { stdout: failed('stdout'), stderr: failed('stderr') };

/**
 * From now on, and for good, stdout and stderr that cannot be written end nothing by themselves: neither `| head`, nor a
 * terminal that is closed, nor a full disk.
 *
 * @param onLost is told (exit 74) when stdout is lost to a full disk
 */
export function surviveLostOutput(onLost: (failure: SopError) => void): void {
  told = onLost;
  for (const name of ['stdout', 'stderr'] as const) {
    const stream = process[name];
    if (!stream.listeners('error').includes(handlers[name])) stream.on('error', handlers[name]);
  }
  if (!process.listeners('exit').includes(leaveClosedTerminal)) process.on('exit', leaveClosedTerminal);
}

/** At its end Node puts the terminal back as it was, and aborts where that is gone. */
function leaveClosedTerminal(): void {
  const gone = (fd: number): boolean => {
    try {
      writeSync(fd, '');
      return false;
    } catch (error) {
      return errorCode(error) === 'EIO';
    }
  };
  const standard = [0, 1, 2];
  if (!standard.some(gone)) return;
  for (const fd of standard) {
    try {
      closeSync(fd);
    } catch {} // closed already
  }
}

/**
 * The news of what was written last, or of a signal, may still be on its way: a whole turn of the event loop brings it, and
 * the current one may be past where it looks.
 */
export const lastNews = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
