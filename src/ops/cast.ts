import { castForwardKernel } from '../../shaders/cast.wgsl.js';
import { byFour, eachGrid, eachLayout } from '../../shaders/lib/each.js';
import { defineOp, input, type Op, output } from '../graph/op.js';
import { elements, like, type RealType, realType } from '../graph/tensor.js';

type CastAttributes = { readonly dtype: RealType };

/** y = x, stored as `dtype`. Input: x of any shape. Output: y. A gradient that has the type of x already passes as it is. */
export const cast: Op<CastAttributes> = defineOp<CastAttributes>({
  name: 'cast',
  halves: [0],
  infer: ([x], { dtype }) => [{ ...like(x), dtype }],
  launches({ inputs: [x], attrs: { dtype }, target }) {
    const { vec4, width: count } = byFour(elements(x));
    const layout = eachLayout(target);
    return [
      {
        kernel: castForwardKernel({ vec4, layout, from: realType(x), to: dtype }),
        bindings: { x: input(0), y: output(0) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  derivative(graph, { inputs: [x] }, [dy]) {
    if (!dy || dy.dtype === x?.dtype) return [dy ?? null];
    return [graph.one(cast, [dy], { dtype: realType(x) })];
  },
});
