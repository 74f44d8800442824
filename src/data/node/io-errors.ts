import { ExitCode, reasonOf, SopError } from '../../errors.js';

/** The `code` of an error of node:fs, or an empty string. */
export function errorCode(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : '';
}

const plainWords: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'the file system is read-only',
  ENOTDIR: 'a part of its path is not a folder',
  EISDIR: 'it is a folder',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is used up',
  EFBIG: 'the file would be larger than allowed',
  EIO: 'the device reported an input/output error',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files on this machine',
  ENOMEM: 'no memory is left',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'its symbolic links go in a circle',
};

const shortages = new Set(['EMFILE', 'ENFILE', 'ENOMEM']);

/** Whether the process ran out of something, which says nothing about the file that it wanted to open. */
export const isShortage = (error: unknown): boolean => shortages.has(errorCode(error));

const higher = 'raise the limits of the process (ulimit -n 1024, ulimit -v unlimited)';

/** What to do about a file that could not be opened or written. */
const advice = (error: unknown, otherwise: string): string => (isShortage(error) ? higher : otherwise);

/** A shortage met where no file of the user's was in question: exit 69. */
export function tooLittle(where: string, error: unknown): SopError {
  const complaint = { what: 'a limit of the process is too low', where, why: why(error), fix: higher };
  return new SopError(ExitCode.unavailable, complaint, { cause: error });
}

function why(error: unknown): string {
  const code = errorCode(error);
  return plainWords[code] ? `${plainWords[code]} (${code})` : reasonOf(error);
}

/** What a reader throws for a file or folder that cannot be read: exit 66. */
export function cannotRead(path: string, error: unknown, fix = 'check the path and its permissions'): SopError {
  // Node replaces what is no UTF-8 in names that it lists, and then cannot find them.
  const unnameable = errorCode(error) === 'ENOENT' && path.includes('\ufffd');
  const complaint = unnameable
    ? { why: 'its name is not UTF-8', fix: 'rename it' }
    : { why: why(error), fix: advice(error, fix) };
  return new SopError(ExitCode.noInput, { what: 'cannot read', where: path, ...complaint }, { cause: error });
}

const full = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO']);

/** What a writer throws: a full or broken disk is exit 74 at any time, all else 73 at creation and 74 afterwards. */
export function cannotWrite(path: string, error: unknown, stage: 'create' | 'write'): SopError {
  const creating = stage === 'create' && !full.has(errorCode(error));
  const missing = errorCode(error) === 'ENOENT' ? 'the folder for it does not exist (ENOENT)' : undefined;
  const complaint = creating
    ? {
        what: 'cannot create',
        where: path,
        why: missing ?? why(error),
        fix: advice(error, 'choose another place or change its permissions'),
      }
    : {
        what: 'writing failed',
        where: path,
        why: why(error),
        fix: advice(error, 'free some space or choose another place'),
      };
  return new SopError(creating ? ExitCode.cannotCreate : ExitCode.io, complaint, { cause: error });
}
