import { NO_ROW } from '../src/ops/gather_rows.js';
import { type ListedNeighboursAttributes, listedNeighbours } from '../src/ops/listed_neighbours.js';
import { listCapacity } from '../src/sop/neighbour-lists.js';
import { type Case, opTest } from './declare.js';

/** Every third row of the memory has a fresh list, up to `fresh` of them. */
function listedCase(
  rows: number,
  anchors: number,
  fresh: number,
  capacity: number,
  k: number,
): Case<ListedNeighboursAttributes> {
  const slot = Array.from({ length: rows }, (_, row) => (row % 3 === 0 && row / 3 < fresh ? row / 3 : NO_ROW));
  const lists = (count: number) => [
    { shape: [count, capacity], dtype: 'u32' as const, fill: () => new Array<number>(count * capacity).fill(count) },
    { shape: [count, capacity] },
  ];
  return {
    inputs: [
      { shape: [anchors], dtype: 'u32', fill: (random) => Array.from({ length: anchors }, () => random.below(rows)) },
      { shape: [rows], dtype: 'u32', fill: () => slot },
      ...lists(fresh),
      ...lists(rows),
    ],
    attrs: { k },
  };
}

export const listedNeighboursTests = [
  opTest<ListedNeighboursAttributes>({
    op: listedNeighbours,
    reference({ inputs, specs, attrs: { k } }) {
      const [anchors, slot, freshIndex, freshScore, index, score] = inputs;
      const capacity = specs[4]!.shape[1]!;
      const entries = (fresh: Float64Array, kept: Float64Array): Float64Array =>
        Float64Array.from({ length: anchors!.length * k }, (_, i) => {
          const [row, j] = [anchors![Math.floor(i / k)]!, i % k];
          return slot![row] === NO_ROW ? kept[row * capacity + j]! : fresh[slot![row]! * capacity + j]!;
        });
      return [entries(freshIndex!, index!), entries(freshScore!, score!)];
    },
    cases: [listedCase(2, 1, 1, 1, 1), listedCase(65, 37, 7, 8, 4), listedCase(197, 65, 65, 16, 7)],
    // Copies.
    tolerance: () => 0,
    bench: {
      dims: ['anchors', 'rows', 'k?', 'fresh?'],
      sized: (anchors, rows, k = 8, fresh = rows) => listedCase(rows, anchors, fresh, listCapacity(k), k),
      shapesOf: ({ inputs: [anchors, slot, fresh], attrs: { k } }) => [
        [anchors!.shape[0]!, slot!.shape[0]!, k, fresh!.shape[0]!],
      ],
      also: [[4096, 65_536, 8, 16_384]],
    },
  }),
];
