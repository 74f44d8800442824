import type { Scalar } from '../src/graph/op.js';
import { updateEma } from '../src/ops/update_ema.js';
import { type Case, EPSILON, opTest } from './declare.js';

const settings = [
  { n: 1, source: 1, rate: 4e-3, flag: 0 },
  { n: 7, source: 65, rate: 5e-4, flag: 0 },
  { n: 256, source: 320, rate: 0.5, flag: 0 },
  { n: 65, source: 65, rate: 1, flag: 0 },
  { n: 197, source: 197, rate: 0, flag: 0 },
  { n: 64, source: 64, rate: 0.5, flag: 1 },
];

function emaCase({ n, source, rate, flag }: (typeof settings)[number]): Case<{ rate: Scalar }> {
  return {
    inputs: [{ shape: [1], dtype: 'u32', fill: () => [flag] }, { shape: [n] }, { shape: [source] }],
    attrs: (scalar) => ({ rate: scalar('rate', rate) }),
  };
}

export const updateEmaTests = [
  opTest({
    op: updateEma,
    reference: ({ inputs: [flag, target, source], attrs, scalar }) => {
      const rate = scalar(attrs.rate);
      if (flag![0] === 0)
        target!.forEach((value, i) => {
          target![i] = (1 - rate) * value + rate * source![i]!;
        });
      return [];
    },
    cases: settings.map(emaCase),
    bench: {
      dims: ['elements'],
      sized: (n) => emaCase({ n, source: n, rate: 4e-3, flag: 0 }),
      shapesOf: ({ inputs: [, target] }) => [target!.shape],
    },
    // Three roundings; an element is at most four times the RMS.
    tolerance: () => 4 * 3 * EPSILON,
  }),
];
