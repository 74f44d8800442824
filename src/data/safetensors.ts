import { ExitCode, SopError } from '../errors.js';
import { elements } from '../graph/tensor.js';
import { crc32, hexCrc } from './crc32.js';
import { bytesOf, checkBytes, emptyArray, itemSize, type NamedArray, printable } from './dtype.js';
import { type Header, malformed, parseHeader, type TensorEntry } from './safetensors-header.js';

export { type ArrayOf, type Dtype, type NamedArray, toFloat32 } from './dtype.js';
export { type Header, parseHeader, type TensorEntry } from './safetensors-header.js';

/** Tensors by name, and what else a file says. */
export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, NamedArray>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** What goes into `__metadata__`: a Map, or `Object.entries` of an object. */
export type Metadata = Iterable<readonly [string, string]>;

/** How a file is written. */
export interface EncodeOptions {
  /** Write a CRC-32 of every tensor and one of the header into the metadata; readers here check what they find. */
  readonly crc?: boolean;
}

const encoder = new TextEncoder();
const crcPrefix = 'crc32.';
/** Covers names, types, shapes and all other metadata; has no dot, so that no tensor's key can be equal. */
const headerCrcKey = 'crc32';

/**
 * The pieces of a safetensors file in order: header, then the bytes of each tensor (views, not copies). Equal input
 * gives equal bytes, in whatever order tensors and metadata come: tensors are sorted by falling item size, so that each
 * is aligned without a hole, and then by name; metadata by key. The data begins at a multiple of 8.
 *
 * @throws SopError 70 where name, shape and data do not fit together: that is a bug of the caller.
 */
export function safetensorsChunks(
  tensors: Iterable<NamedArray>,
  metadata: Metadata = [],
  options: EncodeOptions = {},
): Uint8Array[] {
  const sorted = sortedForFile(tensors);
  const pairs = new Map(metadata);
  if (options.crc) for (const tensor of sorted) pairs.set(crcPrefix + tensor.name, hexCrc(crc32(bytesOf(tensor.data))));
  return chunksOf(sorted, pairs, options.crc ?? false);
}

/** As `safetensorsChunks` with checksums that the caller computed, by tensor name (Node's are faster than ours). */
export function safetensorsChunksWithCrc(
  tensors: Iterable<NamedArray>,
  metadata: Metadata,
  checksums: ReadonlyMap<string, number>,
): Uint8Array[] {
  const pairs = new Map(metadata);
  for (const [name, crc] of checksums) pairs.set(crcPrefix + name, hexCrc(crc));
  return chunksOf(sortedForFile(tensors), pairs, true);
}

function sortedForFile(tensors: Iterable<NamedArray>): NamedArray[] {
  const sorted = [...tensors];
  sorted.sort((a, b) => itemSize(b.dtype) - itemSize(a.dtype) || byCodeUnits(a.name, b.name));
  return sorted;
}

function chunksOf(sorted: readonly NamedArray[], metadata: Map<string, string>, crc: boolean): Uint8Array[] {
  let end = 0;
  const names = new Set<string>();
  const entries = sorted.map(({ name, dtype, shape, data }): TensorEntry => {
    const begin = end;
    end += data.byteLength;
    if (name === '__metadata__' || name === '__proto__' || names.has(name) || data.length !== elements({ shape })) {
      throw new SopError(ExitCode.internal, {
        what: 'tensor that cannot be written',
        where: printable(name),
        why: `its name must be new and not reserved, and its ${data.length} elements fit the shape [${shape}]`,
        fix: 'report this as a bug',
      });
    }
    names.add(name);
    return { name, dtype, shape, begin, end };
  });
  if (crc) metadata.set(headerCrcKey, headerChecksum(entries, metadata));
  const members = entries.map(
    (e) =>
      `${JSON.stringify(e.name)}:${JSON.stringify({ dtype: e.dtype, shape: e.shape, data_offsets: [e.begin, e.end] })}`,
  );
  if (metadata.size > 0) {
    const pairs = sortedPairs(metadata).map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.unshift(`"__metadata__":{${pairs.join(',')}}`);
  }
  const text = encoder.encode(`{${members.join(',')}}`);
  const header = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(text, 8);
  return [header, ...sorted.map((tensor) => bytesOf(tensor.data))];
}

/** A whole file in memory; see `safetensorsChunks`. */
export function encodeSafetensors(
  tensors: Iterable<NamedArray>,
  metadata: Metadata = [],
  options: EncodeOptions = {},
): Uint8Array {
  const chunks = safetensorsChunks(tensors, metadata, options);
  const file = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    file.set(chunk, at);
    at += chunk.length;
  }
  return file;
}

/**
 * Reads a file held in memory. Tensors are copies: the input may be reused.
 *
 * @param where the file's name, for messages
 * @throws SopError 65 naming file and tensor, also where a checksum does not fit; 64 for anything but a Uint8Array
 */
export function decodeSafetensors(bytes: Uint8Array, where = 'safetensors'): SafetensorsFile {
  checkBytes(bytes, where);
  const header = parseHeader(bytes, bytes.length, where);
  verifyHeader(header, where);
  const tensors = new Map<string, NamedArray>();
  for (const entry of header.entries) {
    const stored = bytes.subarray(header.dataStart + entry.begin, header.dataStart + entry.end);
    verifyTensor(header, entry, crc32(stored), where);
    const tensor = emptyArray(entry.name, entry.dtype, entry.shape);
    bytesOf(tensor.data).set(stored);
    tensors.set(entry.name, tensor);
  }
  return { tensors, metadata: header.metadata };
}

/** Whether the file says what the checksum of this tensor must be (so that a reader need not compute it otherwise). */
export function hasChecksum(header: Header, entry: TensorEntry): boolean {
  return header.metadata.has(crcPrefix + entry.name);
}

/** @throws SopError 65 where the file names another checksum than `crc` for this tensor. */
export function verifyTensor(header: Header, entry: TensorEntry, crc: number, where: string): void {
  const expected = header.metadata.get(crcPrefix + entry.name);
  if (expected === undefined || expected === hexCrc(crc)) return;
  throw malformed(
    where,
    `tensor ${printable(entry.name)} is damaged: its CRC-32 is ${hexCrc(crc)}, expected ${printable(expected)}`,
    'use another copy of the file',
  );
}

/** @throws SopError 65 where names, shapes or metadata changed after the file was written (if it has our checksums). */
export function verifyHeader(header: Header, where: string): void {
  const expected = header.metadata.get(headerCrcKey);
  const checked = [...header.metadata.keys()].some((key) => key.startsWith(headerCrcKey));
  if (!checked || expected === headerChecksum(header.entries, header.metadata)) return;
  const why = 'its header is damaged, or another program changed it: names, shapes or metadata do not fit their CRC-32';
  throw malformed(where, why, 'use another copy of the file');
}

function headerChecksum(entries: readonly TensorEntry[], metadata: ReadonlyMap<string, string>): string {
  const pairs = sortedPairs(metadata).filter(([key]) => key !== headerCrcKey);
  const tensors = entries.map((e) => [e.name, e.dtype, e.shape]);
  return hexCrc(crc32(encoder.encode(JSON.stringify([pairs, tensors]))));
}

function sortedPairs(metadata: ReadonlyMap<string, string>): [string, string][] {
  return [...metadata].sort(([a], [b]) => byCodeUnits(a, b));
}

/** The order of `<` on strings: the same in every locale and on every machine. */
function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
