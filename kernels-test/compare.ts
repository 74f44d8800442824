import type { Spec } from '../src/graph/tensor.js';

export interface Comparison {
  /** Worst element's error in units of the expected tensor's RMS, or of its terms; NaN when any element is. */
  readonly error: number;
  readonly index: number;
  readonly expected: number;
  readonly got: number;
}

/**
 * Compares element by element, scaled by the RMS of `expected` (by 1 where that is all zero), or by the size of the element's
 * terms where that is more. NaN anywhere gives NaN, which no tolerance admits.
 */
export function compare(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  terms?: ArrayLike<number> | null,
): Comparison {
  if (got.length !== expected.length) throw new Error(`${got.length} elements, expected ${expected.length}`);
  let squares = 0;
  for (let i = 0; i < expected.length; i++) squares += (expected[i] ?? NaN) ** 2;
  const rms = Math.sqrt(squares / Math.max(1, expected.length)) || 1;
  let worst: Comparison = { error: 0, index: 0, expected: expected[0] ?? 0, got: got[0] ?? 0 };
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs((got[i] ?? NaN) - (expected[i] ?? NaN)) / Math.max(rms, terms?.[i] ?? 0);
    if (!(error <= worst.error)) {
      worst = { error, index: i, expected: expected[i] ?? NaN, got: got[i] ?? NaN };
      if (Number.isNaN(error)) return worst;
    }
  }
  return worst;
}

/**
 * `compare` for the contents of a tensor. In f16 an element may be one step farther, 2^-10 of itself and 2^-24 at least: where
 * two numbers differ, however little, the ends they round to may do so.
 */
export function compareAs(
  { dtype }: Spec,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  terms?: ArrayLike<number> | null,
): Comparison {
  return compare(dtype === 'f16' ? oneStepNearer(got, expected) : got, expected, terms);
}

/** What a tensor may be off where reals may be `tolerance`: integers must be equal. */
export const boundFor = ({ dtype }: Spec, tolerance: number): number => (/^f/.test(dtype) ? tolerance : 0);

/** @throws Error unless `got` is within `tolerance` of `expected` */
export function assertClose(
  label: string,
  spec: Spec,
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
  terms?: ArrayLike<number> | null,
): void {
  const worst = compareAs(spec, got, expected, terms);
  const bound = boundFor(spec, tolerance);
  if (worst.error <= bound) return;
  const { index, error } = worst;
  throw new Error(
    `${label} [${spec.shape}]: element ${index} is ${worst.got}, expected ${worst.expected}; ` +
      `error ${error.toExponential(2)} of the ${terms ? 'RMS or the terms' : 'RMS'} exceeds ${bound.toExponential(2)}`,
  );
}

/** Each number of `got` moved towards the expected one by at most a step of f16. */
function oneStepNearer(got: ArrayLike<number>, expected: ArrayLike<number>): Float64Array {
  return Float64Array.from(got, (value, i) => {
    const missing = (expected[i] ?? NaN) - value;
    const step = Math.max(2 ** -10 * Math.abs(expected[i] ?? NaN), 2 ** -24);
    return Math.abs(missing) <= step ? (expected[i] ?? NaN) : value + Math.sign(missing) * step;
  });
}
