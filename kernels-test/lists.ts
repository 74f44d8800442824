import { Random } from './declare.js';

/** A row and its score. */
export interface Found {
  readonly row: number;
  readonly score: number;
}

/** Score of an entry that is none. */
const EMPTY = Math.fround(-3e38);

/** Rows of small whole numbers: dot products are exact in f32, equal ones are common, and so are equal rows. */
export function wholeRows(count: number, width: number, random: Random): Float64Array {
  return Float64Array.from({ length: count * width }, () => random.below(5) - 2);
}

/** `count` different rows of `n`, as long as there are so many. */
export const spreadRows = (count: number, n: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.floor((i * n) / count));

/** Dot product of two rows. */
export function similarity(memory: ArrayLike<number>, width: number, a: number, b: number): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += memory[a * width + i]! * memory[b * width + i]!;
  return sum;
}

/** All rows but `anchor`, the most similar first, of equals the lower row: the order of the search, by its definition. */
export function ranking(memory: ArrayLike<number>, width: number, anchor: number): Found[] {
  const found: Found[] = [];
  for (let row = 0; row < memory.length / width; row++) {
    if (row !== anchor) found.push({ row, score: similarity(memory, width, anchor, row) });
  }
  return found.sort(before);
}

/** `count` different rows of `rows`. */
export function drawRows(rows: number, count: number, random: Random): number[] {
  const left = Array.from({ length: rows }, (_, row) => row);
  return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0]!);
}

/** Order of the entries of a list. */
export function before(a: Found, b: Found): number {
  return b.score - a.score || a.row - b.row;
}

/** Lists of up to `capacity` entries as the state holds them: index and score [lists, capacity], length. */
export function encodeLists(lists: readonly (readonly Found[])[], capacity: number) {
  const index = new Float64Array(lists.length * capacity);
  const score = new Float64Array(lists.length * capacity).fill(EMPTY);
  lists.forEach((list, i) => {
    list.forEach((entry, j) => {
      index[i * capacity + j] = entry.row;
      score[i * capacity + j] = entry.score;
    });
  });
  return { index, score, length: Float64Array.from(lists, (list) => list.length) };
}

/** Inverse of `encodeLists` for one list. */
export function decodeList(
  { index, score, length }: Readonly<Record<'index' | 'score' | 'length', ArrayLike<number>>>,
  list: number,
): Found[] {
  const capacity = index.length / length.length;
  return Array.from({ length: length[list]! }, (_, j) => ({
    row: index[list * capacity + j]!,
    score: score[list * capacity + j]!,
  }));
}

/**
 * Lists as long use leaves them, in their order but of made-up rows: true ones of a large memory would take hours. Scores are
 * those of `wholeRows`, whose deviation is 2 sqrt(width): few new rows come before the last entry of a list, but for each 32nd,
 * in which every second does.
 */
export function likelyLists(rows: number, width: number, capacity: number, random: Random): Found[][] {
  return Array.from({ length: rows }, (_, row) => {
    const most = row % 32 === 0 ? capacity : Math.round(8 * Math.sqrt(width));
    const length = random.below(Math.min(capacity, rows - 1) + 1);
    return Array.from({ length }, (_, i) => ({ row: (row + 1 + i) % rows, score: most - i }));
  });
}

/** A memory and true lists of it, each of a random length from 0 (unknown) to all that it may hold. */
export function listedMemory(rows: number, width: number, capacity: number, seed: number) {
  const random = new Random(seed);
  const memory = wholeRows(rows, width, random);
  const lists = Array.from({ length: rows }, (_, row) =>
    ranking(memory, width, row).slice(0, random.below(Math.min(capacity, rows - 1) + 1)),
  );
  return { memory, lists, random };
}
