import type { Scalar } from '../src/graph/op.js';
import { updateEma } from '../src/ops/update_ema.js';
import { type Case, EPSILON, opTest } from './declare.js';

const settings = [
  { n: 1, source: 1, momentum: 0.996, flag: 0 },
  { n: 7, source: 65, momentum: 0.9995, flag: 0 },
  { n: 256, source: 320, momentum: 0.5, flag: 0 },
  { n: 197, source: 197, momentum: 1, flag: 0 },
  { n: 64, source: 64, momentum: 0.5, flag: 1 },
];

function emaCase({ n, source, momentum, flag }: (typeof settings)[number]): Case<{ momentum: Scalar }> {
  return {
    inputs: [{ shape: [1], dtype: 'u32', fill: () => [flag] }, { shape: [n] }, { shape: [source] }],
    attrs: (scalar) => ({ momentum: scalar('momentum', momentum) }),
  };
}

export const updateEmaTests = [
  opTest({
    op: updateEma,
    reference: ({ inputs: [flag, target, source], attrs, scalar }) => {
      const momentum = scalar(attrs.momentum);
      if (flag![0] === 0)
        target!.forEach((value, i) => {
          target![i] = momentum * value + (1 - momentum) * source![i]!;
        });
      return [];
    },
    cases: settings.map(emaCase),
    bench: {
      dims: ['elements'],
      sized: (n) => emaCase({ n, source: n, momentum: 0.996, flag: 0 }),
      shapesOf: ({ inputs: [, target] }) => [target!.shape],
    },
    // Three roundings; an element is at most four times the RMS.
    tolerance: () => 4 * 3 * EPSILON,
  }),
];
