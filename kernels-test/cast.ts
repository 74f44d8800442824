import { elements } from '../src/graph/tensor.js';
import { cast } from '../src/ops/cast.js';
import { type CaseInput, opTest, type Random } from './declare.js';

/** Numbers of every size that f16 has, subnormal ones too, and some that it rounds to zero. */
const ofAllSizes = (random: Random): Float64Array =>
  Float64Array.from({ length: 1028 }, (_, i) => 2 ** ((i % 43) - 28) * (1 + random.uniform()) * (i % 2 ? -1 : 1));

const shapes: readonly CaseInput[] = [1, 7, 65, 196, 4096].map((n) => ({ shape: [n] }));

export const castTests = [
  opTest({
    op: cast,
    reference: ({ inputs: [x] }) => [x!.slice()],
    // f32 to f32 is a copy, as f16 to f16 is among the derived cases.
    cases: shapes.map((x) => ({ inputs: [x], attrs: { dtype: 'f32' as const } })),
    halfCases: [...shapes, { shape: [1028], fill: ofAllSizes }].map((x) => ({
      inputs: [x],
      attrs: { dtype: 'f16' as const },
    })),
    // Numbers are only moved; the comparison itself allows for their rounding.
    tolerance: () => 0,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['elements'],
      sized: (n) => ({ inputs: [{ shape: [n] }], attrs: { dtype: 'f32' as const } }),
      shapesOf: ({ inputs: [x] }) => [[elements(x)]],
      also: [[2 ** 22]],
    },
  }),
];
