import type { NoAttributes } from '../src/graph/op.js';
import { packNorms } from '../src/ops/pack_norms.js';
import { type Case, EPSILON, opTest } from './declare.js';

/** Tensors of the given sizes, each in blocks of at most `most` elements, padded to multiples of 64. */
function layout(sizes: readonly number[], most: number) {
  const blocks: number[] = [];
  const first = [0];
  let start = 0;
  for (const size of sizes) {
    for (let done = 0; done < size; done += most) blocks.push(start + done, Math.min(most, size - done));
    first.push(blocks.length / 2);
    start += 64 * Math.ceil(size / 64);
  }
  return { total: start, blocks, first };
}

const packs = [
  layout([1], 4096),
  layout([7, 65, 197, 64], 4096),
  layout([4096, 4097, 3, 9000], 4096),
  layout([300, 1, 128], 64),
];

function packCase({ total, blocks, first }: ReturnType<typeof layout>): Case<NoAttributes> {
  return {
    inputs: [
      { shape: [total] },
      { shape: [blocks.length / 2, 2], dtype: 'u32', fill: () => blocks },
      { shape: [first.length], dtype: 'u32', fill: () => first },
    ],
    attrs: {},
  };
}

export const packNormsTests = [
  opTest({
    op: packNorms,
    reference: ({ inputs: [flat, blocks, first], outputs: [squares] }) => {
      const sums = new Float64Array(squares!.shape[0]!);
      for (let t = 0; t < sums.length; t++) {
        for (let b = first![t]!; b < first![t + 1]!; b++) {
          const start = blocks![2 * b]!;
          for (let i = start; i < start + blocks![2 * b + 1]!; i++) sums[t]! += flat![i]! ** 2;
        }
      }
      return [sums];
    },
    cases: packs.map(packCase),
    bench: {
      dims: ['elements'],
      sized: (count) => packCase(layout([count], 4096)),
      shapesOf: ({ inputs: [flat] }) => [flat!.shape],
    },
    // Terms of one sign: at most 4096 / 16 serial additions (four lanes of four), roundings of random sign, and trees.
    tolerance: () => (16 + 12) * EPSILON,
  }),
];
