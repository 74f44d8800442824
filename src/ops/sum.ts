import { grid } from '../../shaders/lib/grid.js';
import { SUM_SPAN, sumPartial, sumTotal } from '../../shaders/sum.wgsl.js';
import { defineOp, input, output, scratch } from '../graph/op.js';
import { elements, f32 } from '../graph/tensor.js';

const spans = (count: number): number => Math.ceil(count / SUM_SPAN);

/** y = scale * (sum of all elements of x). Input: x of any shape. Output: y [1]. */
export const sum = defineOp<{ scale: number }>({
  name: 'sum',
  infer: () => [f32(1)],
  scratch: ({ inputs: [x] }) => [f32(spans(elements(x)))],
  launches({ inputs: [x], attrs: { scale } }) {
    const count = elements(x);
    return [
      {
        kernel: sumPartial(),
        bindings: { x: input(0), sums: scratch(0) },
        params: { count },
        workgroups: grid(spans(count), 1),
      },
      {
        kernel: sumTotal(),
        bindings: { sums: scratch(0), y: output(0) },
        params: { count: spans(count), scale },
        workgroups: [1, 1, 1],
      },
    ];
  },
  cost: ([x]) => ({ flops: elements(x), bytes: 4 * elements(x) }),
});
