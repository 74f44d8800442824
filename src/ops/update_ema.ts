import { byFour } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import { EMA_TURNS, updateEmaForwardKernel } from '../../shaders/update_ema.wgsl.js';
import { defineOp, input, misfit, type Scalar } from '../graph/op.js';
import { elements } from '../graph/tensor.js';
import { lanes } from './lanes.js';

/**
 * Exponential moving average of the teacher (the paper's Appendix C.5): target = (1 - rate) target + rate source, unless the
 * flag is up. Inputs: flag u32 [1], target of n elements (changed), source of at least n, of which the first n count. No outputs.
 */
export const updateEma = defineOp<{ readonly rate: Scalar }>({
  name: 'update_ema',
  words: (i) => i === 0,
  updates: [1],
  infer([flag, target, source]) {
    if (!flag || !target || !source || elements(source) < elements(target))
      throw misfit('update_ema', { flag, target, source }, '[1], [n], and at least as many elements');
    return [];
  },
  launches({ inputs: [, target], attrs: { rate }, target: adapter }) {
    const { vec4, width: count } = byFour(elements(target));
    return [
      {
        kernel: updateEmaForwardKernel({ vec4, lanes: lanes(adapter) }),
        bindings: { flag: input(0), average: input(1), source: input(2) },
        params: { count, rate_slot: rate.slot },
        workgroups: grid(count, EMA_TURNS * lanes(adapter)),
      },
    ];
  },
  cost([, target]) {
    const n = elements(target);
    return { flops: 3 * n, bytes: 12 * n };
  },
});
