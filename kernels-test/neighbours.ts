import { type NeighboursAttributes, neighbours } from '../src/ops/neighbours.js';
import { type Case, EPSILON, opTest, type Random, type Values } from './declare.js';
import { spreadRows } from './lists.js';

interface Found {
  readonly row: number;
  readonly score: number;
}

/** Rows that may be found for `anchor`, in the order in which they are. */
function ranked(
  memory: ArrayLike<number>,
  width: number,
  anchors: ArrayLike<number>,
  anchor: number,
  search: NeighboursAttributes['search'],
): Found[] {
  const left = new Set(search === 'all' ? [anchor] : [...Array.from(anchors), anchor]);
  const found: Found[] = [];
  for (let row = 0; row < memory.length / width; row++) {
    if (left.has(row)) continue;
    let score = 0;
    for (let i = 0; i < width; i++) score += memory[anchor * width + i]! * memory[row * width + i]!;
    found.push({ row, score });
  }
  return found.sort((a, b) => b.score - a.score || a.row - b.row);
}

/** f32 rows of unit norm of which every `copies`-th repeats an earlier one, bit by bit. */
function drawRows(n: number, width: number, copies: number, random: Random): Float32Array {
  const rows = new Float32Array(n * width);
  for (let row = 0; row < n; row++) {
    const from = row > 0 && copies > 0 && row % copies === 0 ? random.below(row) : row;
    if (from < row) rows.copyWithin(row * width, from * width, (from + 1) * width);
    else {
      const values = Array.from({ length: width }, () => random.normal());
      const norm = Math.hypot(...values);
      rows.set(
        values.map((value) => value / norm),
        row * width,
      );
    }
  }
  return rows;
}

/** Whether scores that differ decide an order by less than f32 can be asked to see. */
function nearTie(found: readonly Found[], k: number): boolean {
  return found.some(({ score }, i) => {
    const gap = i < k ? score - (found[i + 1]?.score ?? -2) : 1;
    return gap !== 0 && gap < 1e-6;
  });
}

function neighboursCase(
  [n, width, count, k]: readonly [n: number, width: number, count: number, k: number],
  search: NeighboursAttributes['search'] = 'all',
  copies = 0,
): Case<NeighboursAttributes> {
  // 17 is coprime to every n: no row comes twice.
  const anchors = Array.from({ length: count }, (_, i) => (i * 17 + 3) % n);
  const memory = (random: Random): Float32Array => {
    for (;;) {
      const rows = drawRows(n, width, copies, random);
      if (!anchors.some((anchor) => nearTie(ranked(rows, width, anchors, anchor, search), k))) return rows;
    }
  };
  return {
    inputs: [
      { shape: [n, width], fill: memory },
      { shape: [count], dtype: 'u32', fill: () => anchors },
    ],
    attrs: { k, search },
  };
}

/**
 * Rows whose similarities are exact in f32, whatever the order of their sums: every element is the same power of two, near
 * the one of unit norm, with either sign. So a large search has one right answer, its ties too, and needs no tolerance.
 */
function signs(count: number, width: number, random: Random): Float32Array {
  const size = 2 ** -Math.round(Math.log2(width) / 2);
  return Float32Array.from({ length: count }, () => (random.uniform() < 0.5 ? -size : size));
}

/** A search of any size, of rows with exact similarities. */
const exactCase = (count: number, n: number, width: number, k = 8): Case<NeighboursAttributes> => ({
  inputs: [
    { shape: [n, width], fill: (random) => signs(n * width, width, random) },
    { shape: [count], dtype: 'u32', fill: () => spreadRows(count, n) },
  ],
  attrs: { k, search: 'all' },
});

export const neighboursTests = [
  opTest<NeighboursAttributes>({
    op: neighbours,
    reference({ inputs: [memory, anchors], specs, attrs: { k, search }, wanted }): readonly Values[] {
      const width = specs[0]?.shape[1] ?? 1;
      const unwanted = Array.from({ length: k }, () => ({ row: 0, score: 0 }));
      const found = Array.from(anchors!, (anchor, i) =>
        wanted(i) ? ranked(memory!, width, anchors!, anchor, search).slice(0, k) : unwanted,
      ).flat();
      return [Float64Array.from(found, ({ row }) => row), Float64Array.from(found, ({ score }) => score)];
    },
    // k = N - 1, K = N, copies, several ranges and one; few k, because each takes a pipeline of its own.
    cases: [
      neighboursCase([2, 3, 1, 1]),
      neighboursCase([9, 7, 5, 8]),
      neighboursCase([197, 65, 37, 8]),
      neighboursCase([300, 64, 7, 8], 'all', 3),
      neighboursCase([40, 16, 40, 8], 'all', 2),
      neighboursCase([50, 5, 3, 16]),
      neighboursCase([97, 33, 66, 8], 'non-anchors'),
      neighboursCase([333, 8, 40, 8], 'non-anchors', 2),
      // Work enough for the largest tile of every adapter.
      exactCase(70, 12001, 240),
    ],
    // One sum of `width` products in series, of RMS 1 / sqrt(width) all told, against scores of at least that RMS.
    tolerance: ({ specs: [memory] }) => 2 * Math.sqrt(memory!.shape[1]!) * EPSILON,
    bench: {
      dims: ['anchors', 'rows', 'width', 'k?'],
      sized: exactCase,
      shapesOf: ({ inputs: [memory, anchors], attrs: { k } }) => [[anchors!.shape[0]!, ...memory!.shape, k]],
      // That of the comparison with others, and of one task of vit-s, where lists take its place.
      also: [
        [512, 16_384, 256, 8],
        [4096, 65_536, 256, 8],
      ],
    },
    sampledRows: 8,
  }),
];
