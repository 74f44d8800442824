import { byFour } from '../../shaders/lib/each.js';
import { type RowLayout, rowGrid, rowLayout, rowRegisters, rowVariants } from '../../shaders/lib/rows.js';
import { softmaxBackwardKernel, softmaxForwardKernel } from '../../shaders/softmax.wgsl.js';
import type { Target } from '../gpu/target.js';
import { defineOp, input, misfit, type NoAttributes, output } from '../graph/op.js';
import { elements, f32, type Spec, sameShape } from '../graph/tensor.js';

/** y = softmax(x) over the last axis. Input: x [R, N]. Output: y [R, N], rows summing to 1. */
export const softmax = defineOp<NoAttributes>({
  name: 'softmax',
  infer([x]) {
    if (x?.shape.length !== 2) throw misfit('softmax', { x }, '[R, N]');
    return [f32(...x.shape)];
  },
  variants: rowVariants,
  launches({ inputs: [x], target, variant }) {
    const { layout, params, ...row } = rowsOf(x, target, variant);
    // Software adapters take seconds to compile exponentials that are written out for each element.
    const registers = layout.by === 'invocation' ? 0 : row.registers;
    return [
      {
        kernel: softmaxForwardKernel({ ...row, layout, registers }),
        bindings: { x: input(0), y: output(0) },
        params,
        workgroups: rowGrid(layout, params.rows),
      },
    ];
  },
  derivative: (graph, { outputs: [y] }, [dy]) => [y && dy ? graph.one(softmaxBackward, [y, dy], {}) : null],
  cost: ([x]) => ({ flops: 5 * elements(x) }),
});

/** dx = y (dy - sum(y dy)) for each row. Inputs: y [R, N], a softmax; dy [R, N]. Output: dx [R, N]. */
export const softmaxBackward = defineOp<NoAttributes>({
  name: 'softmax_backward',
  infer([y, dy]) {
    if (y?.shape.length !== 2 || !sameShape(y.shape, dy?.shape))
      throw misfit('softmax_backward', { y, dy }, 'twice [R, N]');
    return [f32(...y.shape)];
  },
  variants: rowVariants,
  launches({ inputs: [y], target, variant }) {
    const { layout, params, ...row } = rowsOf(y, target, variant);
    return [
      {
        kernel: softmaxBackwardKernel({ ...row, layout }),
        bindings: { y: input(0), dy: input(1), dx: output(0) },
        params,
        workgroups: rowGrid(layout, params.rows),
      },
    ];
  },
  cost: ([y]) => ({ flops: 4 * elements(y) }),
});

interface Rows {
  readonly vec4: boolean;
  readonly layout: RowLayout;
  readonly registers: number;
  readonly params: { readonly rows: number; readonly width: number };
}

function rowsOf(x: Spec | undefined, target: Target, variant: string | undefined): Rows {
  const [rows = 1, columns = 1] = x?.shape ?? [];
  const { vec4, width } = byFour(columns);
  const layout = rowLayout(target, width, variant);
  return { vec4, layout, registers: rowRegisters(layout, width), params: { rows, width } };
}
