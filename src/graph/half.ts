/** The number that 16 bits stand for as IEEE binary16. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The bits of the binary16 number that is nearest, of two equally near ones the even one. */
export function numberToHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(size)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(size)));
  const steps = size * 2 ** (10 - exponent);
  const below = Math.floor(steps);
  const up = steps - below > 0.5 || (steps - below === 0.5 && below % 2 === 1) ? 1 : 0;
  // Subnormal numbers have the steps of the smallest exponent and none of their own; a carry raises the exponent by itself.
  return sign | (below + up + (size < 2 ** -14 ? 0 : (exponent + 14) * 1024));
}

/** f16 numbers packed into words, `bytes` in all; the rest is zero. */
export function packHalves(values: Float32Array, bytes: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  new Uint16Array(words.buffer).set(Uint16Array.from(values, numberToHalf));
  return words;
}

/** The first `count` f16 numbers of a buffer. */
export function unpackHalves(buffer: ArrayBuffer, count: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(new Uint16Array(buffer, 0, count), halfToNumber);
}
