import { ExitCode, SopError } from '../errors.js';

/** Header of an IDX file of bytes: two zeros, type 8, the number of dimensions, then each as 4 bytes, high byte first. */
export interface IdxHeader {
  readonly shape: readonly number[];
  /** Bytes of the header: the values start here. */
  readonly dataStart: number;
  /** Bytes of the values. */
  readonly dataBytes: number;
}

/** Bytes that hold the header of any file that `parseIdxHeader` accepts. */
export const idxHeaderBytes = 20;
/** An IDX set is held in memory whole. */
const mostBytes = 8 * 2 ** 30;

/**
 * @param start the first bytes of the (unpacked) file
 * @param kind images have 3 dimensions (count, height, width) or 4 (and channels, 1 or 3), labels one
 * @throws SopError 65 naming the file
 */
export function parseIdxHeader(start: Uint8Array, kind: 'images' | 'labels', where: string): IdxHeader {
  const expected = kind === 'images' ? [3, 4] : [1];
  const [zero0, zero1, type, rank] = start;
  if (start.length < 8 || zero0 !== 0 || zero1 !== 0 || type !== 8 || !expected.includes(rank!)) {
    const magic = expected.map((n) => `0000080${n}`).join(' or ');
    const got = Array.from(start.subarray(0, 4), (byte) => byte.toString(16).padStart(2, '0')).join('');
    throw malformedIdx(where, `a file of ${kind} starts with ${magic} (hexadecimal), this one with '${got}'`);
  }
  const dataStart = 4 + 4 * rank!;
  if (start.length < dataStart) throw malformedIdx(where, 'it ends inside its header');
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  const shape = Array.from({ length: rank! }, (_, i) => view.getUint32(4 + 4 * i));
  const dataBytes = shape.reduce((product, extent) => product * extent, 1);
  const channels = shape[3] ?? 1;
  if (shape.slice(1).includes(0) || (channels !== 1 && channels !== 3)) {
    throw malformedIdx(where, `its header says ${shape.join(' x ')}, which are no images`);
  }
  if (dataBytes > mostBytes) {
    throw malformedIdx(
      where,
      `its header says ${shape.join(' x ')}: ${dataBytes} bytes are more than the 8 GiB allowed`,
    );
  }
  return { shape, dataStart, dataBytes };
}

export function malformedIdx(where: string, why: string, fix = 'download it again'): SopError {
  return new SopError(ExitCode.data, { what: 'malformed IDX file', where, why, fix });
}
