import { add as addKernel } from '../../shaders/add.wgsl.js';
import { eachGrid, eachLayout } from '../../shaders/lib/each.js';
import { defineOp, GraphError, input, output } from '../graph/op.js';
import { elements, f32, sameShape, showShape } from '../graph/tensor.js';

/** y = a + b. Inputs: a, b, both of one shape. Output: y. Sums gradients in `differentiate`. */
export const add = defineOp<Record<string, never>>({
  name: 'add',
  infer([a, b]) {
    if (!a || !b || !sameShape(a.shape, b.shape))
      throw new GraphError('add', `${showShape(a?.shape ?? [])} + ${showShape(b?.shape ?? [])}`);
    return [f32(...a.shape)];
  },
  launches({ outputs: [y], target }) {
    const numbers = elements(y?.shape ?? []);
    const vec4 = numbers % 4 === 0;
    const count = vec4 ? numbers / 4 : numbers;
    const layout = eachLayout(target);
    return [
      {
        kernel: addKernel({ vec4, layout }),
        bindings: { a: input(0), b: input(1), y: output(0) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  derivative: (_graph, _node, [dy]) => [dy ?? null, dy ?? null],
  cost: (_inputs, [y]) => ({ flops: elements(y?.shape ?? []), bytes: 12 * elements(y?.shape ?? []) }),
});
