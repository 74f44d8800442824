import { NO_ROW } from '../src/ops/gather_rows.js';
import { type StaleNeighboursAttributes, staleNeighbours } from '../src/ops/stale_neighbours.js';
import { type Case, opTest } from './declare.js';
import { encodeLists, listedMemory, ranking } from './lists.js';

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
  const draw = (count: number): number[] => {
    const left = Array.from({ length: rows }, (_, row) => row);
    return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0]!);
  };
  const draws = drawn.map(draw);
  return {
    inputs: [
      { shape: [rows, width], fill: () => memory },
      { shape: [rows], dtype: 'u32', fill: () => (unknown ? new Array<number>(rows).fill(0) : length) },
      ...draws.map((list) => ({ shape: [list.length], dtype: 'u32' as const, fill: () => list })),
    ],
    attrs: { k, capacity, expected: Math.ceil(drawn.reduce((sum, count) => sum + count) / 4) },
  };
}

export const staleNeighboursTests = [
  opTest<StaleNeighboursAttributes>({
    op: staleNeighbours,
    reference({ inputs: [memory, length, ...drawn], specs, outputs, attrs: { k, capacity } }) {
      const width = specs[0]!.shape[1]!;
      const most = outputs[0]!.shape[0]!;
      const wanted = new Set(drawn.flatMap((list) => [...list]));
      const stale = [...wanted].filter((row) => length![row]! < k).sort((a, b) => a - b);
      const rows = new Float64Array(most).fill(NO_ROW);
      rows.set(stale);
      const slot = Float64Array.from(length!, (_, row) => (stale.includes(row) ? stale.indexOf(row) : NO_ROW));
      const lists = Array.from(rows, (row) => (row === NO_ROW ? [] : ranking(memory!, width, row).slice(0, capacity)));
      const { index, score } = encodeLists(lists, capacity);
      return [rows, Float64Array.of(stale.length), slot, index, score];
    },
    cases: settings.map(staleCase),
    // Whole numbers: scores are exact.
    tolerance: () => 0,
  }),
];
