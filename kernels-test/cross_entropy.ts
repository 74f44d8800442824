import type { NoAttributes } from '../src/graph/op.js';
import { crossEntropy, crossEntropyBackward } from '../src/ops/cross_entropy.js';
import { NO_ROW } from '../src/ops/gather_rows.js';
import { type Case, type CaseInput, EPSILON, opTest, type Random, type Values } from './declare.js';

const TINY = 2 ** -126;

/** Calls `visit` for every pair of rows that counts. */
function eachPair(
  partners: Values,
  weights: Values,
  visit: (row: number, partner: number, weight: number) => void,
): void {
  weights.forEach((weight, row) => {
    for (const partner of partners.subarray(2 * row, 2 * row + 2))
      if (partner !== NO_ROW && weight !== 0) visit(row, partner, weight);
  });
}

/** Away from 0, where the second derivative of the logarithm spoils central differences. */
const probabilities = (rows: number, width: number): CaseInput => ({
  shape: [rows, width],
  fill: (random) => Float64Array.from({ length: rows * width }, () => 0.2 + 0.8 * random.uniform()),
});

/** Rows with two, one (in either place) and no partner in turn. */
const partners = (rows: number, teacherRows: number): CaseInput => ({
  shape: [rows, 2],
  dtype: 'u32',
  fill: (random) =>
    Float64Array.from({ length: 2 * rows }, (_, i) => {
      const absent = [0, 2, 1, 3][(i >> 1) % 4] ?? 0;
      return absent & (1 << (i % 2)) ? NO_ROW : random.below(teacherRows);
    }),
});

const weights = (rows: number): CaseInput => ({
  shape: [rows],
  fill: (random: Random) => Float64Array.from({ length: rows }, (_, i) => (i % 5 === 4 ? 0 : random.uniform())),
});

const shapes = [
  { rows: 1, teacherRows: 1, width: 2 },
  { rows: 7, teacherRows: 3, width: 7 },
  { rows: 65, teacherRows: 5, width: 64 },
  { rows: 12, teacherRows: 4, width: 197 },
  { rows: 9, teacherRows: 4, width: 1028 },
];

const inputs = ({ rows, teacherRows, width }: (typeof shapes)[number]): CaseInput[] => [
  probabilities(rows, width),
  probabilities(teacherRows, width),
  partners(rows, teacherRows),
  weights(rows),
];

/** Underflowed probabilities, and rows of weight 0 that hold NaN, which must not matter. */
const extreme: CaseInput[] = [
  {
    shape: [3, 8],
    fill: () => [
      0.5,
      0,
      1e-38,
      1e-40,
      1,
      2e-38,
      1e-30,
      0.25,
      ...new Float64Array(8).fill(NaN),
      ...new Float64Array(8).fill(0.125),
    ],
  },
  { shape: [1, 8], fill: () => [0.5, 0, 1e-7, 1e-7, 0, 1e-7, 1e-7, 0.25] },
  { shape: [3, 2], dtype: 'u32', fill: () => [0, NO_ROW, 0, 0, 0, 0] },
  { shape: [3], fill: () => [0.5, 0, 2] },
];

const noAttributes = {};

export const crossEntropyTests = [
  opTest({
    op: crossEntropy,
    reference: ({ inputs: [student, teacher, pairs, weight], specs }) => {
      const width = specs[0]!.shape[1]!;
      let loss = 0;
      eachPair(pairs!, weight!, (row, partner, w) => {
        for (let i = 0; i < width; i++)
          loss -= w * teacher![partner * width + i]! * Math.log(Math.max(TINY, student![row * width + i]!));
      });
      return [Float64Array.of(loss)];
    },
    cases: shapes.map((shape): Case<NoAttributes> => ({ inputs: inputs(shape), attrs: noAttributes })),
    // All terms have one sign: an error of theirs is one of the sum. WGSL's log is good to 2^-21 absolute between 0.5 and 2,
    // where the terms average 0.4; then at most K / 4 serial additions (four lanes), R / 64 over the rows, and 12 of trees, of
    // random sign.
    tolerance({ specs: [student] }) {
      const [rows = 0, width = 0] = student!.shape;
      return (20 + Math.sqrt(width / 4) + Math.sqrt(rows / 64)) * EPSILON;
    },
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'width', 'teacher-rows?'],
      sized: (rows, width, teacherRows = Math.ceil(rows / 6)) => ({
        inputs: inputs({ rows, width, teacherRows }),
        attrs: noAttributes,
      }),
      shapesOf: ({ inputs: [student, teacher] }) => [[...student!.shape, teacher!.shape[0]!]],
    },
  }),
  opTest({
    op: crossEntropyBackward,
    reference: ({ inputs: [student, teacher, pairs, weight, dloss], specs }) => {
      const width = specs[0]!.shape[1]!;
      const dstudent = new Float64Array(student!.length);
      eachPair(pairs!, weight!, (row, partner, w) => {
        for (let i = 0; i < width; i++) {
          const p = student![row * width + i]!;
          if (!(p < TINY)) dstudent[row * width + i]! -= (dloss![0]! * w * teacher![partner * width + i]!) / p;
        }
      });
      return [dstudent];
    },
    cases: [...shapes.map(inputs), extreme].map((list) => ({ inputs: [...list, { shape: [1] }], attrs: noAttributes })),
    // A sum, two products and a division of 2.5 units; an element is at most ten times the RMS.
    tolerance: () => 10 * 6 * EPSILON,
  }),
];
