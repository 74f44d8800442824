import { gatherRows, NO_ROW, scatterRows } from '../src/ops/gather_rows.js';
import { opTest, type Random } from './declare.js';

/** `count` different row numbers below `from` in random order, some of them replaced by NO_ROW. */
const indices = (count: number, from: number) => (random: Random) => {
  const rows = Array.from({ length: from }, (_, i) => i);
  for (let i = from - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [rows[i], rows[j]] = [rows[j]!, rows[i]!];
  }
  return Array.from({ length: count }, (_, i) => (i >= from || i % 5 === 3 ? NO_ROW : rows[i]!));
};

const cases = [
  { rows: 1, width: 1, count: 1 },
  { rows: 65, width: 7, count: 20 },
  { rows: 197, width: 64, count: 65 },
  { rows: 9, width: 12, count: 14 },
];

function gatherCase({ rows, width, count }: (typeof cases)[number]) {
  const index = { shape: [count], dtype: 'u32' as const, fill: indices(count, rows) };
  return { inputs: [{ shape: [rows, width] }, index], attrs: {} };
}

export const gatherRowsTests = [
  opTest({
    op: gatherRows,
    reference({ inputs: [x, index], outputs: [y] }) {
      const [count = 0, width = 0] = y!.shape;
      const result = new Float64Array(count * width);
      index!.forEach((row, j) => {
        if (row !== NO_ROW) result.set(x!.subarray(row * width, (row + 1) * width), j * width);
      });
      return [result];
    },
    cases: cases.map(gatherCase),
    // Numbers are only moved.
    tolerance: () => 0,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'width', 'count?'],
      sized: (rows, width, count = rows) => gatherCase({ rows, width, count }),
      shapesOf: ({ inputs: [x], outputs: [y] }) => [[...x!.shape, y!.shape[0]!]],
    },
  }),
  opTest({
    op: scatterRows,
    reference({ inputs: [y, index], outputs: [x] }) {
      const [rows = 0, width = 0] = x!.shape;
      const result = new Float64Array(rows * width);
      index!.forEach((row, j) => {
        if (row !== NO_ROW) result.set(y!.subarray(j * width, (j + 1) * width), row * width);
      });
      return [result];
    },
    cases: cases.map(({ rows, width, count }) => ({
      inputs: [{ shape: [count, width] }, { shape: [count], dtype: 'u32' as const, fill: indices(count, rows) }],
      attrs: { rows },
    })),
    // Numbers are only moved.
    tolerance: () => 0,
    gradient: { inputs: [0], outputs: [0] },
  }),
];
