import { type SampleRowsAttributes, sampleRows } from '../src/ops/sample_rows.js';
import { permuted, stream } from '../src/rng.js';
import { type Case, opTest } from './declare.js';

const cases = [
  { count: 1, from: 1 },
  { count: 7, from: 7 },
  { count: 65, from: 197 },
  { count: 197, from: 257 },
  { count: 512, from: 16_384 },
  { count: 300, from: 1_000_003 },
];

function sampleCase(count: number, from: number, i = 1): Case<SampleRowsAttributes> {
  return {
    inputs: [],
    attrs: (scalar) => ({
      count,
      from,
      stream: 256 * i + 5,
      seed: scalar('seed', 0xfffffff0 + i, 'u32'),
      step: scalar('step', 41 * i, 'u32'),
    }),
  };
}

export const sampleRowsTests = [
  opTest({
    op: sampleRows,
    reference: ({ attrs: { count, from, stream: number, seed, step }, scalar }) => {
      const key = stream(scalar(seed), number, scalar(step));
      return [Float64Array.from({ length: count }, (_, i) => permuted(key, i, from))];
    },
    cases: cases.map(({ count, from }, i) => sampleCase(count, from, i)),
    tolerance: () => 0,
    bench: {
      dims: ['count', 'from'],
      sized: (count, from) => sampleCase(count, from),
      shapesOf: ({ attrs: { count, from } }) => [[count, from]],
    },
  }),
];
