import { softmax, softmaxBackward } from '../src/ops/softmax.js';
import { EPSILON, opTest, type Random, type Values } from './declare.js';

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

function rowwise(width: number, x: Values, row: (values: Values, first: number) => Values): Values {
  const result = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += width) result.set(row(x.subarray(first, first + width), first), first);
  return result;
}

export const softmaxTests = [
  opTest({
    op: softmax,
    reference({ inputs: [x], specs: [shape] }) {
      const softmaxOf = (values: Values): Values => {
        const largest = Math.max(...values);
        const exponentials = values.map((value) => Math.exp(value - largest));
        const sum = exponentials.reduce((total, value) => total + value, 0);
        return exponentials.map((value) => value / sum);
      };
      return [rowwise(shape!.shape[1]!, x!, softmaxOf)];
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
      return [
        rowwise(shape!.shape[1]!, y!, (p, first) => {
          const mean = p.reduce((sum, value, i) => sum + value * dy![first + i]!, 0);
          return p.map((value, i) => value * (dy![first + i]! - mean));
        }),
      ];
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
