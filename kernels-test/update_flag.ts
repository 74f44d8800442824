import { elements } from '../src/graph/tensor.js';
import { updateFlag } from '../src/ops/update_flag.js';
import { type CaseInput, opTest } from './declare.js';

/** Standard normal numbers with `value` at some places. */
const holding = (count: number, value: number, ...places: number[]): CaseInput => ({
  shape: [count],
  fill: (random) => Float64Array.from({ length: count }, (_, i) => (places.includes(i) ? value : random.normal())),
});
const largest = 2 ** 127 * (2 - 2 ** -23);

export const updateFlagTests = [
  opTest({
    op: updateFlag,
    reference: ({ inputs: [flag, ...scanned] }) => {
      if (flag?.[0] !== 0) return [];
      let before = 0;
      for (const values of scanned) {
        const found = values.findIndex((value) => !Number.isFinite(value));
        if (found >= 0) {
          flag[0] = 1 + before + found;
          break;
        }
        before += values.length;
      }
      return [];
    },
    cases: [
      [holding(1, 0)],
      [holding(1, NaN, 0)],
      [holding(197, largest, 3), holding(65, -largest, 64), holding(9000, 1e-45, 5)],
      [holding(9000, Infinity, 8999, 4097)],
      [holding(7, 0), holding(197, -Infinity, 196), holding(65, NaN, 0)],
      [holding(1, 0), holding(2, 0), holding(3, 0), holding(4, 0), holding(5, 0), holding(4100, NaN, 4099)],
    ].flatMap((scanned, i) => {
      const flag = (value: number): CaseInput => ({ shape: [1], dtype: 'u32', fill: () => [value] });
      const before = i === 3 ? [0, 7] : [0];
      return before.map((value) => ({ inputs: [flag(value), ...scanned], attrs: {} }));
    }),
    tolerance: () => 0,
    bench: {
      dims: ['elements'],
      sized: (count) => ({ inputs: [{ shape: [1], dtype: 'u32', fill: () => [0] }, { shape: [count] }], attrs: {} }),
      shapesOf: ({ inputs: [, ...scanned] }) => scanned.map((spec) => [elements(spec)]),
    },
  }),
];
