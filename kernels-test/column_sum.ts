import { elements } from '../src/graph/tensor.js';
import { columnSum } from '../src/ops/column_sum.js';
import { EPSILON, opTest } from './declare.js';

export const columnSumTests = [
  opTest({
    op: columnSum,
    reference({ inputs: [x], outputs: [y] }) {
      const columns = y!.shape[0]!;
      const sums = new Float64Array(columns);
      x!.forEach((value, i) => {
        sums[i % columns]! += value;
      });
      return [sums];
    },
    cases: [
      [1, 1],
      [7, 65],
      [65, 64],
      [197, 7],
      [1400, 192],
      [2, 33, 12],
    ].map((shape) => ({
      inputs: [{ shape }],
      attrs: {},
    })),
    // Normal terms: the sum and its rounding error both grow like sqrt(rows). An element passes through at most
    // 2 sqrt(rows) + 64 additions, each wrong by EPSILON of a partial sum of at most 5 RMS.
    tolerance({ specs: [x], outputs: [y] }) {
      const rows = x!.shape.reduce((product, side) => product * side, 1) / y!.shape[0]!;
      return 5 * EPSILON * Math.sqrt(2 * Math.sqrt(rows) + 64);
    },
    bench: {
      dims: ['rows', 'columns'],
      sized: (...shape) => ({ inputs: [{ shape }], attrs: {} }),
      shapesOf: ({ inputs: [x], outputs: [y] }) => [[elements(x) / y!.shape[0]!, y!.shape[0]!]],
      also: [[12_224, 384]],
    },
  }),
];
