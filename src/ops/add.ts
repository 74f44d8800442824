import { addForwardKernel } from '../../shaders/add.wgsl.js';
import { byFour, eachGrid, eachLayout } from '../../shaders/lib/each.js';
import { defineOp, input, misfit, type NoAttributes, output } from '../graph/op.js';
import { elements, like, realType, sameShape } from '../graph/tensor.js';

/** y = a + b. Inputs: a, b, both of one shape, stored alike. Output: y. Sums gradients in `differentiate`. */
export const add = defineOp<NoAttributes>({
  name: 'add',
  halves: [0, 1],
  infer([a, b]) {
    if (!sameShape(a?.shape, b?.shape) || a?.dtype !== b?.dtype)
      throw misfit('add', { a, b }, 'a and b of one shape and type');
    return [like(a)];
  },
  launches({ outputs: [y], target }) {
    const { vec4, width: count } = byFour(elements(y));
    const layout = eachLayout(target);
    return [
      {
        kernel: addForwardKernel({ vec4, layout, type: realType(y) }),
        bindings: { a: input(0), b: input(1), y: output(0) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  derivative: (_graph, _node, [dy]) => [dy ?? null, dy ?? null],
  cost: (_inputs, [y]) => ({ flops: elements(y) }),
});
