import type { NoAttributes } from '../src/graph/op.js';
import { updateFifo } from '../src/ops/update_fifo.js';
import { type Case, opTest } from './declare.js';

const settings = [
  { size: 1, rows: 1, width: 1, pointer: 0, flag: 0 },
  { size: 65, rows: 7, width: 7, pointer: 3, flag: 0 },
  { size: 65, rows: 64, width: 8, pointer: 60, flag: 0 },
  { size: 7, rows: 7, width: 4, pointer: 5, flag: 0 },
  { size: 7, rows: 24, width: 3, pointer: 6, flag: 0 },
  { size: 7, rows: 3, width: 4, pointer: 6, flag: 9 },
];

function fifoCase({ size, rows, width, pointer, flag }: (typeof settings)[number]): Case<NoAttributes> {
  return {
    inputs: [
      { shape: [1], dtype: 'u32', fill: () => [flag] },
      { shape: [size, width] },
      { shape: [1], dtype: 'u32', fill: () => [pointer] },
      { shape: [rows, width] },
    ],
    attrs: {},
  };
}

export const updateFifoTests = [
  opTest({
    op: updateFifo,
    reference: ({ inputs: [flag, memory, pointer, rows], specs }) => {
      if (flag![0] !== 0) return [];
      const [size, width] = specs[1]!.shape as [number, number];
      const batch = specs[3]!.shape[0]!;
      for (let i = 0; i < batch; i++) {
        const place = (pointer![0]! + i) % size;
        memory!.set(rows!.subarray(i * width, (i + 1) * width), place * width);
      }
      pointer![0] = (pointer![0]! + batch) % size;
      return [];
    },
    cases: settings.map(fifoCase),
    bench: {
      dims: ['memory', 'rows', 'width'],
      sized: (size, rows, width) => fifoCase({ size, rows, width, pointer: 0, flag: 0 }),
      shapesOf: ({ inputs: [, memory, , rows] }) => [[memory!.shape[0]!, ...rows!.shape]],
    },
    // Rows are copied.
    tolerance: () => 0,
  }),
];
