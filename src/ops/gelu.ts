import { geluBackwardKernel, geluForwardKernel } from '../../shaders/gelu.wgsl.js';
import { byFour, eachGrid, eachLayout } from '../../shaders/lib/each.js';
import { defineOp, input, misfit, type NoAttributes, output } from '../graph/op.js';
import { elements, like, realType, sameShape } from '../graph/tensor.js';

/** Flops of one element: a polynomial of degree 9, an exponential, a division. */
const FLOPS = 30;

/** y = x Phi(x), the exact (erf) GELU of Hendrycks & Gimpel, to f32 accuracy. Input: x of any shape. Output: y. */
export const gelu = defineOp<NoAttributes>({
  name: 'gelu',
  halves: [0],
  infer: ([x]) => [like(x)],
  launches({ inputs: [x], target }) {
    const { vec4, width: count } = byFour(elements(x));
    const layout = eachLayout(target);
    return [
      {
        kernel: geluForwardKernel({ vec4, layout, type: realType(x) }),
        bindings: { x: input(0), y: output(0) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  derivative: (graph, { inputs: [x] }, [dy]) => [x && dy ? graph.one(geluBackward, [x, dy], {}) : null],
  cost: ([x]) => ({ flops: FLOPS * elements(x) }),
});

/** dx = dy (Phi(x) + x phi(x)). Inputs: x, dy of one shape, stored alike. Output: dx. */
export const geluBackward = defineOp<NoAttributes>({
  name: 'gelu_backward',
  halves: [0, 1],
  infer([x, dy]) {
    if (!sameShape(x?.shape, dy?.shape) || x?.dtype !== dy?.dtype)
      throw misfit('gelu_backward', { x, dy }, 'x and dy of one shape and type');
    return [like(x)];
  },
  launches({ inputs: [x], target }) {
    const { vec4, width: count } = byFour(elements(x));
    const layout = eachLayout(target);
    return [
      {
        kernel: geluBackwardKernel({ vec4, layout, type: realType(x) }),
        bindings: { x: input(0), dy: input(1), dx: output(0) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  cost: ([x]) => ({ flops: FLOPS * elements(x) }),
});
