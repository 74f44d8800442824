import { elements } from '../src/graph/tensor.js';
import { finiteFlag } from '../src/ops/finite_flag.js';
import { type CaseInput, opTest } from './declare.js';

/** Standard normal numbers with `value` at some places. */
const holding = (count: number, value: number, ...places: number[]): CaseInput => ({
  shape: [count],
  fill: (random) => Float64Array.from({ length: count }, (_, i) => (places.includes(i) ? value : random.normal())),
});
const largest = 2 ** 127 * (2 - 2 ** -23);

export const finiteFlagTests = [
  opTest({
    op: finiteFlag,
    reference: ({ inputs }) => {
      let before = 0;
      for (const values of inputs) {
        const found = values.findIndex((value) => !Number.isFinite(value));
        if (found >= 0) return [Float64Array.of(1 + before + found)];
        before += values.length;
      }
      return [Float64Array.of(0)];
    },
    cases: [
      [holding(1, 0)],
      [holding(1, NaN, 0)],
      [holding(197, largest, 3), holding(65, -largest, 64), holding(9000, 1e-45, 5)],
      [holding(9000, Infinity, 8999, 4097)],
      [holding(7, 0), holding(197, -Infinity, 196), holding(65, NaN, 0)],
      [holding(1, 0), holding(2, 0), holding(3, 0), holding(4, 0), holding(5, 0), holding(4100, NaN, 4099)],
    ].map((inputs) => ({ inputs, attrs: {} })),
    tolerance: () => 0,
    bench: {
      dims: ['elements'],
      sized: (count) => ({ inputs: [{ shape: [count] }], attrs: {} }),
      shapesOf: ({ inputs }) => inputs.map(({ shape }) => [elements(shape)]),
    },
  }),
];
