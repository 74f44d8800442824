import { softmax, softmaxBackward } from '../src/ops/softmax.js';
import { EPSILON, opTest, type Random } from './declare.js';

const shapes = [
  [1, 1],
  [7, 7],
  [65, 64],
  [37, 197],
  [3, 1024],
] as const;

/** exp overflows without the maximum taken off. */
const large = (random: Random): number[] => Array.from({ length: 5 * 40 }, () => 1000 + 20 * random.normal());

/** Half of each row vanishes. */
const lopsided = (random: Random): number[] =>
  Array.from({ length: 9 * 33 }, (_, i) => (i % 33 < 17 ? 0 : -300) + random.normal());

export const softmaxTests = [
  opTest({
    op: softmax,
    reference({ inputs: [x], specs: [shape] }) {
      const [rows = 0, width = 0] = shape!.shape;
      const y = new Float64Array(rows * width);
      for (let first = 0; first < y.length; first += width) {
        let [largest, sum] = [Number.NEGATIVE_INFINITY, 0];
        for (let i = first; i < first + width; i++) largest = Math.max(largest, x![i]!);
        for (let i = first; i < first + width; i++) sum += y[i] = Math.exp(x![i]! - largest);
        for (let i = first; i < first + width; i++) y[i]! /= sum;
      }
      return [y];
    },
    cases: [
      ...shapes.map(([rows, columns]) => ({ inputs: [{ shape: [rows, columns] }], attrs: {} })),
      { inputs: [{ shape: [5, 40], fill: large }], attrs: {} },
      { inputs: [{ shape: [9, 33], fill: lopsided }], attrs: {} },
    ],
    // exp is good to (3 + 2 |x|) units in the last place, where exp(x) counts at most 3 + 2; a quotient good to 2.5; a sum
    // of sqrt(N) roundings. An element is at most sqrt(N) RMS.
    tolerance: ({ specs: [x] }) => (16 + 2 * Math.sqrt(x!.shape[1]!)) * Math.sqrt(x!.shape[1]!) * EPSILON,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'width'],
      sized: (...shape) => ({ inputs: [{ shape }], attrs: {} }),
      shapesOf: ({ inputs: [x] }) => [x!.shape],
      also: [[12_000, 384]],
    },
  }),
  opTest({
    op: softmaxBackward,
    reference({ inputs: [y, dy], specs: [shape] }) {
      const [rows = 0, width = 0] = shape!.shape;
      const dx = new Float64Array(rows * width);
      for (let first = 0; first < dx.length; first += width) {
        let mean = 0;
        for (let i = first; i < first + width; i++) mean += y![i]! * dy![i]!;
        for (let i = first; i < first + width; i++) dx[i] = y![i]! * (dy![i]! - mean);
      }
      return [dx];
    },
    // Any y will do: rows of unit norm keep the sum near the size of its terms.
    cases: shapes.map(([rows, columns]) => ({
      inputs: [{ shape: [rows, columns], fill: 'unit-rows' as const }, { shape: [rows, columns] }],
      attrs: {},
    })),
    // A sum of N products, and two roundings of elements up to 20 RMS.
    tolerance: ({ specs: [y] }) => (40 + 4 * Math.sqrt(y!.shape[1]!)) * EPSILON,
  }),
];
