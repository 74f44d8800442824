import type { NoAttributes } from '../src/graph/op.js';
import { NO_ROW } from '../src/ops/gather_rows.js';
import {
  type UpdateNeighboursInsertAttributes,
  updateNeighboursFill,
  updateNeighboursInsert,
} from '../src/ops/update_neighbours.js';
import { type Case, opTest, Random, type Values } from './declare.js';
import {
  before,
  decodeList,
  encodeLists,
  type Found,
  likelyLists,
  listedMemory,
  ranking,
  similarity,
  wholeRows,
} from './lists.js';

/** Inputs of kept lists. */
const listInputs = (lists: ReturnType<typeof encodeLists>, rows: number) => [
  { shape: [rows, lists.index.length / rows], dtype: 'u32' as const, fill: () => lists.index },
  { shape: [rows, lists.score.length / rows], fill: () => lists.score },
  { shape: [rows], dtype: 'u32' as const, fill: () => lists.length },
];

function fillCase(rows: number, filled: readonly number[], capacity: number, flag = 0): Case<NoAttributes> {
  const old = encodeLists(listedMemory(rows, 3, capacity, rows).lists, capacity);
  const fresh = encodeLists(listedMemory(filled.length, 3, capacity, 1 + rows).lists, capacity);
  return {
    inputs: [
      { shape: [1], dtype: 'u32', fill: () => [flag] },
      { shape: [filled.length], dtype: 'u32', fill: () => filled },
      ...listInputs(fresh, filled.length).slice(0, 2),
      ...listInputs(old, rows),
    ],
    attrs: {},
  };
}

/** As much as one fill can be: a list for each of the first rows, as far as there are so many. */
function sizedFill(filled: number, rows: number, capacity = 16): Case<NoAttributes> {
  const lists = (count: number, random: Random) => encodeLists(likelyLists(count, 1, capacity, random), capacity);
  return {
    inputs: [
      { shape: [1], dtype: 'u32', fill: () => [0] },
      { shape: [filled], dtype: 'u32', fill: () => Array.from({ length: filled }, (_, i) => (i < rows ? i : NO_ROW)) },
      ...listInputs(lists(filled, new Random(1)), filled).slice(0, 2),
      ...listInputs(lists(rows, new Random(2)), rows),
    ],
    attrs: {},
  };
}

interface InsertSetting {
  readonly rows: number;
  readonly width: number;
  readonly capacity: number;
  readonly batch: number;
  /** Of the FIFO, after the rows were inserted. */
  readonly pointer: number;
  readonly flag?: number;
}

function insertCase(setting: InsertSetting, seed: number): Case<UpdateNeighboursInsertAttributes> {
  const { rows, width, capacity, batch, pointer, flag = 0 } = setting;
  // Lists of the memory as it was, and the memory as it is.
  const { memory, lists } = listedMemory(rows, width, capacity, seed);
  const random = new Random(1000 + seed);
  for (let i = 0; i < Math.min(batch, rows); i++) {
    memory.set(wholeRows(1, width, random), ((pointer + rows - 1 - i) % rows) * width);
  }
  return insertOf({ memory, lists, flag }, setting);
}

function insertOf(
  { memory, lists, flag }: { memory: Values; lists: readonly (readonly Found[])[]; flag: number },
  { rows, width, capacity, batch, pointer }: InsertSetting,
): Case<UpdateNeighboursInsertAttributes> {
  return {
    inputs: [
      { shape: [1], dtype: 'u32', fill: () => [flag] },
      { shape: [rows, width], fill: () => memory },
      { shape: [1], dtype: 'u32', fill: () => [pointer] },
      ...listInputs(encodeLists(lists, capacity), rows),
    ],
    attrs: { batch },
  };
}

/** The FIFO has come round: the new rows are its last and its first ones. */
function sizedInsert(batch: number, rows: number, width: number, capacity = 16) {
  const random = new Random(1);
  const memory = wholeRows(rows, width, random);
  const lists = likelyLists(rows, width, capacity, random);
  const pointer = Math.floor(batch / 2) % rows;
  return insertOf({ memory, lists, flag: 0 }, { rows, width, capacity, batch, pointer });
}

export const updateNeighboursTests = [
  opTest<NoAttributes>({
    op: updateNeighboursFill,
    reference({ inputs: [flag, rows, freshIndex, freshScore, index, score, length], specs }) {
      if (flag![0] !== 0) return [];
      const [size, capacity] = specs[4]!.shape as [number, number];
      rows!.forEach((row, i) => {
        if (row === NO_ROW) return;
        index!.set(freshIndex!.subarray(i * capacity, (i + 1) * capacity), row * capacity);
        score!.set(freshScore!.subarray(i * capacity, (i + 1) * capacity), row * capacity);
        length![row] = Math.min(capacity, size - 1);
      });
      return [];
    },
    cases: [
      fillCase(2, [1], 2),
      fillCase(65, [3, 7, 64, NO_ROW, NO_ROW], 8),
      fillCase(197, [0, 196, 5, 50], 16),
      fillCase(9, [0, 1, 2], 4, 1),
    ],
    // Copies.
    tolerance: () => 0,
    bench: {
      dims: ['filled', 'rows', 'capacity?'],
      sized: sizedFill,
      shapesOf: ({ inputs: [, filled, , , index] }) => [[filled!.shape[0]!, ...index!.shape]],
      also: [[16_384, 65_536, 16]],
    },
  }),
  opTest<UpdateNeighboursInsertAttributes>({
    op: updateNeighboursInsert,
    reference({ inputs: [flag, memory, pointer, index, score, length], specs, attrs: { batch } }) {
      if (flag![0] !== 0) return [];
      const width = specs[1]!.shape[1]!;
      const [size, capacity] = specs[3]!.shape as [number, number];
      const fresh = Math.min(batch, size);
      const replaced = new Set(Array.from({ length: fresh }, (_, i) => (pointer![0]! + size - 1 - i) % size));
      const lists = Array.from(length!, (_, row) => {
        if (replaced.has(row)) return ranking(memory!, width, row).slice(0, capacity);
        const old = decodeList({ index: index!, score: score!, length: length! }, row);
        const bound = old.at(-1);
        if (!bound) return [];
        const survivors = old.filter((entry) => !replaced.has(entry.row));
        const entering = [...replaced]
          .map((other) => ({ row: other, score: similarity(memory!, width, row, other) }))
          .filter((entry) => before(entry, bound) < 0);
        return [...survivors, ...entering].sort(before).slice(0, capacity);
      });
      const after = encodeLists(lists, capacity);
      index!.set(after.index);
      score!.set(after.score);
      length!.set(after.length);
      return [];
    },
    cases: (
      [
        { rows: 2, width: 1, capacity: 4, batch: 1, pointer: 0 },
        { rows: 7, width: 3, capacity: 4, batch: 6, pointer: 2 },
        { rows: 7, width: 3, capacity: 16, batch: 19, pointer: 3 },
        { rows: 65, width: 7, capacity: 4, batch: 7, pointer: 3 },
        { rows: 197, width: 16, capacity: 16, batch: 37, pointer: 190 },
        { rows: 9, width: 4, capacity: 4, batch: 2, pointer: 5, flag: 3 },
      ] satisfies InsertSetting[]
    ).map(insertCase),
    // Whole numbers: scores are exact.
    tolerance: () => 0,
    bench: {
      dims: ['batch', 'rows', 'width', 'capacity?'],
      sized: sizedInsert,
      shapesOf: ({ inputs: [, memory, , index], attrs: { batch } }) => [[batch, ...memory!.shape, index!.shape[1]!]],
      also: [[16, 65_536, 256, 16]],
    },
  }),
];
