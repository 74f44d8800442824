import { elements } from '../src/graph/tensor.js';
import { sum } from '../src/ops/sum.js';
import { EPSILON, opTest } from './declare.js';

export const sumTests = [
  opTest({
    op: sum,
    reference: ({ inputs: [x], attrs: { scale } }) => [
      Float64Array.of(scale * x!.reduce((total, value) => total + value, 0)),
    ],
    cases: [1, 7, 65, 197, 4096, 4097, 300_000].map((n) => ({
      inputs: [{ shape: [n], fill: 'uniform' as const }],
      attrs: { scale: 0.5 },
    })),
    // All terms have one sign; each passes through at most 64 serial and 12 tree additions.
    tolerance: () => 76 * EPSILON,
    bench: {
      dims: ['elements'],
      sized: (n) => ({ inputs: [{ shape: [n], fill: 'uniform' }], attrs: { scale: 1 } }),
      shapesOf: ({ inputs: [x] }) => [[elements(x)]],
      otherwise: [[2 ** 22]],
    },
  }),
];
