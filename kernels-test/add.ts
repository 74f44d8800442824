import { elements } from '../src/graph/tensor.js';
import { add } from '../src/ops/add.js';
import { EPSILON, opTest } from './declare.js';

export const addTests = [
  opTest({
    op: add,
    reference: ({ inputs: [a, b] }) => [a!.map((value, i) => value + b![i]!)],
    cases: [1, 7, 65, 197, 1024].map((n) => ({ inputs: [{ shape: [n] }, { shape: [n] }], attrs: {} })),
    // One rounding of a sum of RMS 1.4; the largest of 1,000 normal sums is below 8.
    tolerance: () => 8 * EPSILON,
    gradient: { inputs: [0, 1], outputs: [0] },
    bench: {
      dims: ['elements'],
      sized: (n) => ({ inputs: [{ shape: [n] }, { shape: [n] }], attrs: {} }),
      shapesOf: ({ outputs: [y] }) => [[elements(y)]],
    },
  }),
];
