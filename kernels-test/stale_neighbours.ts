import { NO_ROW } from '../src/ops/gather_rows.js';
import { type StaleNeighboursAttributes, staleNeighbours } from '../src/ops/stale_neighbours.js';
import { listCapacity } from '../src/sop/neighbour-lists.js';
import { type Case, opTest, type Random } from './declare.js';
import { drawRows, encodeLists, listedMemory, ranking, spreadRows, wholeRows } from './lists.js';

interface Setting {
  readonly rows: number;
  readonly width: number;
  readonly k: number;
  readonly capacity: number;
  /** Rows that each task draws. */
  readonly drawn: readonly number[];
  /** Whether no list is known yet. */
  readonly unknown?: boolean;
}

const settings: readonly Setting[] = [
  { rows: 2, width: 1, k: 1, capacity: 4, drawn: [1] },
  { rows: 7, width: 3, k: 6, capacity: 16, drawn: [7, 7] },
  { rows: 65, width: 7, k: 2, capacity: 4, drawn: [33, 33, 33], unknown: true },
  { rows: 197, width: 16, k: 8, capacity: 16, drawn: [64, 65] },
];

function staleCase(setting: Setting, seed: number): Case<StaleNeighboursAttributes> {
  const { rows, width, k, capacity, drawn, unknown = false } = setting;
  const { memory, lists, random } = listedMemory(rows, width, capacity, seed);
  const { length } = encodeLists(lists, capacity);
  const draws = drawn.map((count) => drawRows(rows, count, random));
  return {
    inputs: [
      { shape: [rows, width], fill: () => memory },
      { shape: [rows], dtype: 'u32', fill: () => (unknown ? new Array<number>(rows).fill(0) : length) },
      ...draws.map((list) => ({ shape: [list.length], dtype: 'u32' as const, fill: () => list })),
    ],
    attrs: { k, capacity, expected: Math.ceil(drawn.reduce((sum, count) => sum + count) / 4) },
  };
}

/** A search for `stale` of the rows that one task draws. Only the lengths of lists count: they need not be those of any. */
function sizedCase(stale: number, rows: number, width: number, k = 8, drawn = Math.min(rows, 32 * stale)) {
  if (drawn > rows) throw new RangeError(`${drawn} of ${rows} rows drawn`);
  const capacity = listCapacity(k);
  const draw = spreadRows(drawn, rows);
  const lengths = (random: Random): Float64Array => {
    const all = Float64Array.from({ length: rows }, () => k + random.below(capacity + 1 - k));
    for (const i of spreadRows(stale, drawn)) all[draw[i]!] = random.below(k);
    return all;
  };
  return {
    inputs: [
      { shape: [rows, width], fill: (random: Random) => wholeRows(rows, width, random) },
      { shape: [rows], dtype: 'u32' as const, fill: lengths },
      { shape: [drawn], dtype: 'u32' as const, fill: () => draw },
    ],
    attrs: { k, capacity, expected: stale },
  };
}

export const staleNeighboursTests = [
  opTest<StaleNeighboursAttributes>({
    op: staleNeighbours,
    reference({ inputs: [memory, length, ...drawn], specs, outputs, attrs: { k, capacity }, wanted }) {
      const width = specs[0]!.shape[1]!;
      const most = outputs[0]!.shape[0]!;
      const draws = new Set(drawn.flatMap((list) => [...list]));
      const stale = [...draws].filter((row) => length![row]! < k).sort((a, b) => a - b);
      const rows = new Float64Array(most).fill(NO_ROW);
      rows.set(stale);
      const slot = new Float64Array(length!.length).fill(NO_ROW);
      stale.forEach((row, place) => {
        slot[row] = place;
      });
      const lists = Array.from(rows, (row, place) =>
        row === NO_ROW || !wanted(place) ? [] : ranking(memory!, width, row).slice(0, capacity),
      );
      const { index, score } = encodeLists(lists, capacity);
      return [rows, Float64Array.of(stale.length), slot, index, score];
    },
    cases: settings.map(staleCase),
    // Whole numbers: scores are exact.
    tolerance: () => 0,
    bench: {
      dims: ['stale', 'rows', 'width', 'k?', 'drawn?'],
      sized: sizedCase,
      shapesOf: ({ inputs: [memory], outputs: [rows], attrs: { k, expected } }) => [
        [expected, ...memory!.shape, k, rows!.shape[0]!],
      ],
      also: [[512, 65_536, 256, 8, 16_384]],
    },
    // Most of them are of rows that are not stale.
    sampledRows: 256,
  }),
];
