import { gelu, geluBackward } from '../src/ops/gelu.js';
import { EPSILON, opTest, type Random } from './declare.js';

/**
 * exp(a^2 / 2) (1 - Phi(a)) for a >= 0, Mills' ratio over sqrt(2 pi), to 1e-15: the series of Phi where it converges fast,
 * the continued fraction 1 / (a + 1 / (a + 2 / (a + 3 / ...))) beyond.
 */
function scaledTail(a: number): number {
  if (a < 2) {
    let term = a;
    let sum = a;
    for (let n = 3; term > 1e-18 * sum; n += 2) {
      term *= (a * a) / n;
      sum += term;
    }
    return 0.5 * Math.exp((a * a) / 2) - sum / Math.sqrt(2 * Math.PI);
  }
  let fraction = a;
  for (let n = 200; n > 0; n--) fraction = a + n / fraction;
  return 1 / (fraction * Math.sqrt(2 * Math.PI));
}

/** Normal distribution function. */
export function phi(x: number): number {
  const tail = Math.exp((-x * x) / 2) * scaledTail(Math.abs(x));
  return x < 0 ? tail : 1 - tail;
}

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** A grid over the bend of the function, both zeros, and numbers whose squares would overflow naive formulas. */
const wide = (): number[] => [
  ...Array.from({ length: 192 }, (_, i) => (i - 96) / 16),
  ...[0, -0, 1e-20, -1e-20, 13, -13, 1e4, -1e4],
];
const far = (random: Random): number[] => Array.from({ length: 65 }, () => -3 - 4 * random.uniform());

const shapes = [[1], [7], [65, 4], [197, 5]];

export const geluTests = [
  opTest({
    op: gelu,
    reference({ inputs: [x], specs: [spec], wanted }) {
      const width = spec!.shape.at(-1)!;
      return [x!.map((value, i) => (wanted(Math.floor(i / width)) ? value * phi(value) : 0))];
    },
    cases: [
      ...shapes.map((shape) => ({ inputs: [{ shape }], attrs: {} })),
      { inputs: [{ shape: [200], fill: wide }], attrs: {} },
      // All below -3: an absolute error that suits |y| near 1 would be far outside here.
      { inputs: [{ shape: [65], fill: far }], attrs: {} },
    ],
    // Relative error of an element: 4 roundings of the fit and 3 + 2 |a^2 / 2| of exp, 16 in all near a = 3, where the largest
    // elements of the far tail are; these are up to 5 RMS.
    tolerance: () => 16 * 5 * EPSILON,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'width'],
      sized: (...shape) => ({ inputs: [{ shape }], attrs: {} }),
      shapesOf: ({ inputs: [x] }) => [x!.shape],
    },
    sampledRows: 64,
  }),
  opTest({
    op: geluBackward,
    reference({ inputs: [x, dy], specs: [spec], wanted }) {
      const width = spec!.shape.at(-1)!;
      const slope = (value: number): number => phi(value) + value * density(value);
      return [x!.map((value, i) => (wanted(Math.floor(i / width)) ? dy![i]! * slope(value) : 0))];
    },
    sampledRows: 64,
    cases: [
      ...shapes.map((shape) => ({ inputs: [{ shape }, { shape }], attrs: {} })),
      { inputs: [{ shape: [200], fill: wide }, { shape: [200] }], attrs: {} },
      { inputs: [{ shape: [65], fill: far }, { shape: [65] }], attrs: {} },
    ],
    // As forward: nothing cancels but near the minimum at -0.75.
    tolerance: () => 16 * 5 * EPSILON,
  }),
];
