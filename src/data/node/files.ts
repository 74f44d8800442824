import { constants, type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { ExitCode, SopError } from '../../errors.js';
import { elements } from '../../graph/tensor.js';
import { bytesOf, emptyArray, type NamedArray } from '../dtype.js';
import { npyHeader } from '../npy.js';
import {
  hasChecksum,
  type Metadata,
  type SafetensorsFile,
  safetensorsChunks,
  safetensorsChunksWithCrc,
  type TensorEntry,
  verifyHeader,
  verifyTensor,
} from '../safetensors.js';
import { type Header, headerLength, malformed, parseHeader } from '../safetensors-header.js';
import { cannotRead, cannotWrite, errorCode } from './io-errors.js';

/** One call of read or write moves at most this: Node refuses 2 GiB and more, and shorter turns let others run. */
const pieceBytes = 64 * 2 ** 20;

/** Temporary files of `writeFileAtomic` look like this; what a killed process left behind can be swept by it. */
export const temporaryPattern = /^\.(.+)\.(\d+)-(\d+)\.tmp$/;
let temporaries = 0;

/**
 * Writes a file so that at any moment, also after a crash or loss of power, its path holds the whole old content or the
 * whole new one: temporary file beside it, fsync, rename, fsync of the folder. A symbolic link keeps pointing to
 * its target; a device or pipe is written directly.
 *
 * @throws SopError 73 if it cannot be created, 74 if writing fails (disk full and the like); the temporary file is
 * removed and the old content untouched. An error that `chunks` or `confirm` throws is passed on.
 *
 * @param confirm asked when all is on the disk, before it takes the old content's place; throws where it must not
 */
export async function writeFileAtomic(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  confirm: () => void | Promise<void> = () => undefined,
): Promise<void> {
  const existing = await stat(path).catch(() => null);
  if (existing?.isDirectory()) throw cannotWrite(path, Object.assign(new Error(), { code: 'EISDIR' }), 'create');
  if (existing && !existing.isFile()) return writeInto(path, path, 'w', chunks, false);
  const target = existing ? await realpath(path) : path;
  const temporary = join(dirname(target), `.${basename(target)}.${process.pid}-${temporaries++}.tmp`);
  try {
    await writeInto(path, temporary, 'wx', chunks, true);
    await confirm();
    await rename(temporary, target).catch((error: unknown) => {
      throw cannotWrite(path, error, 'create');
    });
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(target)).catch((error: unknown) => {
    throw cannotWrite(path, error, 'write');
  });
}

/** Writes `chunks` to `actual`; messages name `path`. */
async function writeInto(
  path: string,
  actual: string,
  flags: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  sync: boolean,
): Promise<void> {
  const file = await open(actual, flags).catch((error: unknown) => {
    throw cannotWrite(path, error, 'create');
  });
  const failed = (error: unknown): never => {
    throw cannotWrite(path, error, 'write');
  };
  try {
    for await (const chunk of chunks) await writeFully(file, chunk).catch(failed);
    if (sync) await file.sync().catch(failed);
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
  // Quotas of network file systems are reported as late as here.
  await file.close().catch(failed);
}

/** Writes all of `bytes`, however few the system takes at a time: a disk that fills up shows first as a short write. */
export async function writeFully(file: Pick<FileHandle, 'write'>, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, Math.min(pieceBytes, bytes.length - at));
    if (bytesWritten === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' });
    at += bytesWritten;
  }
}

async function syncFolder(folder: string): Promise<void> {
  // Windows opens no folders, and some file systems cannot sync one: the rename is then as safe as it can be.
  const cannot = (error: unknown): void => {
    if (!['EPERM', 'EISDIR', 'EINVAL', 'EACCES', 'ENOTSUP'].includes(errorCode(error))) throw error;
  };
  const handle = await open(folder, 'r').catch(cannot);
  await handle?.sync().catch(cannot);
  await handle?.close();
}

/** Opens a file for reading and closes it after `use`. @throws SopError 66 if it is missing or unreadable */
export async function withFile<T>(path: string, use: (file: FileHandle, bytes: number) => Promise<T>): Promise<T> {
  // Opening a named pipe would else wait for somebody who writes into it.
  const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) => {
    throw cannotRead(path, error);
  });
  try {
    const info = await file.stat();
    if (info.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    if (!info.isFile()) throw cannotRead(path, new Error('it is a pipe or a device'), 'give a file');
    return await use(file, info.size);
  } catch (error) {
    throw error instanceof SopError || errorCode(error) === '' ? error : cannotRead(path, error);
  } finally {
    await file.close();
  }
}

/**
 * Fills `into` from `position` on; `seen` is called with each piece as it arrives (for checksums).
 *
 * @returns whether the file was long enough
 */
export async function readFully(
  file: Pick<FileHandle, 'read'>,
  into: Uint8Array,
  position: number,
  seen: (piece: Uint8Array) => void = () => undefined,
): Promise<boolean> {
  for (let at = 0; at < into.length; ) {
    const { bytesRead } = await file.read(into, at, Math.min(pieceBytes, into.length - at), position + at);
    if (bytesRead === 0) return false;
    seen(into.subarray(at, at + bytesRead));
    at += bytesRead;
  }
  return true;
}

/**
 * The header alone, checked: cheap however large the file is.
 *
 * @param look is shown the metadata before they are held against their checksum, which newer programs may form differently
 * @throws SopError 65, 66, and what `look` throws
 */
export async function readSafetensorsHeader(
  path: string,
  look?: (metadata: Header['metadata']) => void,
): Promise<Header> {
  return withFile(path, (file, bytes) => headerOf(file, bytes, path, look));
}

async function headerOf(
  file: FileHandle,
  fileBytes: number,
  path: string,
  look?: (metadata: Header['metadata']) => void,
): Promise<Header> {
  const start = new Uint8Array(Math.min(9, fileBytes));
  await readFully(file, start, 0);
  const bytes = new Uint8Array(8 + headerLength(start, fileBytes, path));
  if (!(await readFully(file, bytes, 0))) throw malformed(path, 'it became shorter while it was read');
  const header = parseHeader(bytes, fileBytes, path);
  look?.(header.metadata);
  verifyHeader(header, path);
  return header;
}

/**
 * Reads a safetensors file of any size. The header is checked against the file's length before anything is allocated,
 * and checksums are verified where the file has them.
 *
 * @param select which tensors to read (default all): the weights of a checkpoint, say, without its moments
 * @throws SopError 65 malformed or damaged, 66 missing or unreadable
 */
export async function readSafetensorsFile(
  path: string,
  select: (entry: TensorEntry) => boolean = () => true,
): Promise<SafetensorsFile> {
  return withFile(path, async (file, fileBytes) => {
    const header = await headerOf(file, fileBytes, path);
    const tensors = new Map<string, NamedArray>();
    for (const entry of header.entries) {
      if (!select(entry)) continue;
      const tensor = emptyArray(entry.name, entry.dtype, entry.shape);
      let crc = 0;
      const sum = (piece: Uint8Array): void => {
        crc = crc32(piece, crc);
      };
      const seen = hasChecksum(header, entry) ? sum : undefined;
      if (!(await readFully(file, bytesOf(tensor.data), header.dataStart + entry.begin, seen))) {
        throw malformed(path, 'it became shorter while it was read');
      }
      verifyTensor(header, entry, crc, path);
      tensors.set(entry.name, tensor);
    }
    return { tensors, metadata: header.metadata };
  });
}

/**
 * Writes a safetensors file atomically, with checksums if `crc`. The tensors must not change before it is done.
 *
 * @throws SopError 73, 74 as `writeFileAtomic`
 */
export async function writeSafetensorsFile(
  path: string,
  tensors: Iterable<NamedArray>,
  metadata: Metadata = [],
  options: { readonly crc?: boolean; readonly confirm?: () => void | Promise<void> } = {},
): Promise<void> {
  if (!options.crc) return writeFileAtomic(path, safetensorsChunks(tensors, metadata), options.confirm);
  const list = [...tensors];
  const checksums = new Map<string, number>();
  for (const { name, data } of list) checksums.set(name, await checksum(bytesOf(data)));
  await writeFileAtomic(path, safetensorsChunksWithCrc(list, metadata, checksums), options.confirm);
}

async function checksum(bytes: Uint8Array): Promise<number> {
  let crc = 0;
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    crc = crc32(bytes.subarray(at, at + pieceBytes), crc);
    // Saving goes on beside training: let the step in between.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return crc;
}

/** Writes f32 values of `shape` (features [n, d]) as a NumPy file. @throws SopError 73, 74 as `writeFileAtomic` */
export async function writeNpyFile(path: string, data: Float32Array, shape: readonly number[]): Promise<void> {
  if (elements({ shape }) !== data.length) {
    throw new SopError(ExitCode.internal, {
      what: 'array that cannot be written',
      where: path,
      why: `${data.length} values do not fit the shape [${shape}]`,
      fix: 'report this as a bug',
    });
  }
  await writeFileAtomic(path, [npyHeader(shape), bytesOf(data)]);
}
