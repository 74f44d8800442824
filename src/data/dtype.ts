import { ExitCode, SopError } from '../errors.js';
import { halfToNumber } from '../graph/half.js';
import { elements } from '../graph/tensor.js';

/**
 * Element types of a safetensors file and the array each is held in. F16 and BF16 keep their bits (`toFloat32` widens
 * them), BOOL is one byte an element. All numbers are little-endian, in files as in memory: so is every machine that
 * has WebGPU.
 */
export interface ArrayOf {
  F64: Float64Array;
  F32: Float32Array;
  F16: Uint16Array;
  BF16: Uint16Array;
  I64: BigInt64Array;
  I32: Int32Array;
  I16: Int16Array;
  I8: Int8Array;
  U64: BigUint64Array;
  U32: Uint32Array;
  U16: Uint16Array;
  U8: Uint8Array;
  BOOL: Uint8Array;
}
export type Dtype = keyof ArrayOf;

interface Maker<D extends Dtype> {
  new (length: number): ArrayOf[D];
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayOf[D];
  readonly BYTES_PER_ELEMENT: number;
}

const makers: { readonly [D in Dtype]: Maker<D> } = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/** A named tensor in row-major order; `data.length` is the product of `shape` (1 for a scalar, shape []). */
export type NamedArray = {
  [D in Dtype]: {
    readonly name: string;
    readonly dtype: D;
    readonly shape: readonly number[];
    readonly data: ArrayOf[D];
  };
}[Dtype];

export const dtypes = Object.keys(makers) as readonly Dtype[];

export function isDtype(text: string): text is Dtype {
  return Object.hasOwn(makers, text);
}

/** Bytes of one element. */
export function itemSize(dtype: Dtype): number {
  return makers[dtype].BYTES_PER_ELEMENT;
}

/** A zeroed tensor, to be filled by a reader. */
export function emptyArray(name: string, dtype: Dtype, shape: readonly number[]): NamedArray {
  const data = new makers[dtype](elements({ shape }));
  return { name, dtype, shape, data } as NamedArray;
}

/** The bytes of a typed array, not copied. */
export function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * The values as f32: F32 itself (not copied), F16 and BF16 widened exactly, F64 rounded to nearest.
 *
 * @throws SopError 65 for integer types: whoever wants weights must not get indices by mistake.
 */
export function toFloat32(array: NamedArray): Float32Array {
  switch (array.dtype) {
    case 'F32':
      return array.data;
    case 'F64':
      return Float32Array.from(array.data);
    case 'BF16': {
      const bits = new Uint32Array(array.data.length);
      for (let i = 0; i < bits.length; i++) bits[i] = array.data[i]! << 16;
      return new Float32Array(bits.buffer);
    }
    case 'F16': {
      const values = new Float32Array(array.data.length);
      for (let i = 0; i < values.length; i++) values[i] = halfToNumber(array.data[i]!);
      return values;
    }
    default:
      throw new SopError(ExitCode.data, {
        what: 'tensor of the wrong type',
        where: printable(array.name),
        why: `expected F32, F16, BF16 or F64, got ${array.dtype}`,
        fix: 'store it as floating point',
      });
  }
}

/** @throws SopError 64 for anything but a Uint8Array: an ArrayBuffer, which `fetch` gives, has neither elements nor a length */
export function checkBytes(bytes: unknown, where: string): void {
  if (bytes instanceof Uint8Array) return;
  throw new SopError(ExitCode.usage, {
    what: 'no bytes',
    where,
    why: `expected a Uint8Array, got ${Object.prototype.toString.call(bytes)}`,
    fix: 'wrap an ArrayBuffer: new Uint8Array(buffer)',
  });
}

/** A name from a file, fit for a terminal and a line: quoted, shortened, without control characters. */
export function printable(name: string): string {
  const short = name.length > 80 ? `${name.slice(0, 77)}...` : name;
  return JSON.stringify(short).replace(/[\u007f-\u009f\u2028\u2029\u202a-\u202e]/g, '?');
}

/** At most eight names on a line. */
export function shortList(names: readonly string[]): string {
  return names.length > 8 ? `${names.slice(0, 8).join(', ')} and ${names.length - 8} more` : names.join(', ');
}
