import { residual, residualBackward } from '../src/ops/residual.js';
import { totalRows, totalSequences } from '../src/ops/segments.js';
import { EPSILON, opTest, type Random } from './declare.js';
import { rowsOf } from './sequences.js';

const cases = [
  { width: 1, depth: 1, row: 0, segments: [{ count: 1, length: 1 }] },
  { width: 7, depth: 3, row: 2, segments: [{ count: 2, length: 5 }, { count: 3, length: 2 }] }, // biome-ignore format: one line a case
  { width: 64, depth: 4, row: 1, segments: [{ count: 4, length: 50 }, { count: 8, length: 17 }] }, // biome-ignore format: one line a case
  { width: 12, depth: 2, row: 1, segments: [{ count: 2, length: 197 }] },
];

const keeps = (count: number) => (random: Random) =>
  Array.from({ length: count }, () => (random.uniform() < 0.3 ? 0 : 1 / 0.7));

const keepInput = ({ depth, segments }: (typeof cases)[number]) => {
  const sequences = totalSequences(segments);
  return { shape: [depth, sequences], fill: keeps(depth * sequences) };
};

function residualCase(each: (typeof cases)[number]) {
  const shape = [totalRows(each.segments), each.width];
  return { inputs: [{ shape }, { shape }, keepInput(each)], attrs: { row: each.row, segments: each.segments } };
}

export const residualTests = [
  opTest({
    op: residual,
    reference({ inputs: [x, branch, keep], specs: [shape], attrs: { row, segments } }) {
      const width = shape!.shape[1]!;
      const rows = rowsOf(segments);
      const from = row * totalSequences(segments);
      return [x!.map((value, i) => value + keep![from + rows[Math.floor(i / width)]!.sequence]! * branch![i]!)];
    },
    cases: cases.map(residualCase),
    // Two roundings of elements up to 5 RMS.
    tolerance: () => 10 * EPSILON,
    gradient: { inputs: [0, 1], outputs: [0] },
    bench: {
      dims: ['sequences', 'length', 'width'],
      sized: (count, length, width) => residualCase({ width, depth: 2, row: 1, segments: [{ count, length }] }),
      shapesOf: ({ inputs: [x], attrs: { segments } }) =>
        segments.map(({ count, length }) => [count, length, x!.shape[1]!]),
    },
  }),
  opTest({
    op: residualBackward,
    reference({ inputs: [dy, keep], specs: [shape], attrs: { row, segments } }) {
      const width = shape!.shape[1]!;
      const rows = rowsOf(segments);
      const from = row * totalSequences(segments);
      return [dy!.map((value, i) => keep![from + rows[Math.floor(i / width)]!.sequence]! * value)];
    },
    cases: cases.map((each) => {
      const shape = [totalRows(each.segments), each.width];
      return { inputs: [{ shape }, keepInput(each)], attrs: { row: each.row, segments: each.segments } };
    }),
    // One rounding of elements up to 5 RMS.
    tolerance: () => 5 * EPSILON,
  }),
];
