/** A number as f32, and the bits of that. */
const number = new Float32Array(1);
const word = new Uint32Array(number.buffer);

/** The number that 16 bits stand for as IEEE binary16. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const size = bits & 0x7fff;
  if (size >= 0x7c00) return size > 0x7c00 ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  // The exponent of an f32 is by 112 higher, the fraction 13 bits longer.
  word[0] = size << 13;
  return sign * number[0]! * 2 ** 112;
}

/** The bits of the binary16 number that is nearest to an f32, of two equally near ones the even one. */
export function numberToHalf(value: number): number {
  number[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  const bits = word[0]! & 0x7fffffff;
  if (bits > 0x7f800000) return 0x7e00;
  if (bits >= 0x47800000) return sign | 0x7c00;
  if (bits < 0x38800000) {
    // Subnormal: next to 0.5 an f32 has the steps of the smallest f16.
    number[0] = Math.abs(value) + 0.5;
    return sign | (word[0]! - 0x3f000000);
  }
  // Half a step less one, and one where the step below is odd; a carry raises the exponent by itself, to infinity too.
  return sign | ((bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13);
}

/** f16 numbers packed into words, `bytes` in all; the rest is zero. */
export function packHalves(values: Float32Array, bytes: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  const halves = new Uint16Array(words.buffer);
  values.forEach((value, i) => {
    halves[i] = numberToHalf(value);
  });
  return words;
}

/** The first `count` f16 numbers of a buffer. */
export function unpackHalves(buffer: ArrayBuffer, count: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  new Uint16Array(buffer, 0, count).forEach((half, i) => {
    values[i] = halfToNumber(half);
  });
  return values;
}
