import { l2NormalizeBackwardKernel, l2NormalizeForwardKernel } from '../../shaders/l2_normalize.wgsl.js';
import { byFour } from '../../shaders/lib/each.js';
import { rowGrid, rowLayout, rowRegisters, rowVariants } from '../../shaders/lib/rows.js';
import { defineOp, input, misfit, output } from '../graph/op.js';
import { elements, f32, type Spec, sameShape } from '../graph/tensor.js';

type Eps = { readonly eps: number };

function matrix(x: Spec | undefined): { rows: number; width: number; vec4: boolean } {
  const [rows = 1, columns = 1] = x?.shape ?? [];
  return { rows, ...byFour(columns) };
}

/**
 * y = x / max(|x|, eps) along the last axis, as PyTorch's F.normalize. Input: x [R, W]. Outputs: y [R, W], norm [R] (|x|,
 * which has no gradient).
 */
export const l2Normalize = defineOp<Eps>({
  name: 'l2_normalize',
  infer([x]) {
    if (x?.shape.length !== 2) throw misfit('l2_normalize', { x }, '[R, W]');
    return [f32(...x.shape), f32(x.shape[0] ?? 0)];
  },
  variants: rowVariants,
  launches({ inputs: [x], attrs: { eps }, target, variant }) {
    const { rows, width, vec4 } = matrix(x);
    const layout = rowLayout(target, width, variant);
    return [
      {
        kernel: l2NormalizeForwardKernel({ vec4, layout, registers: rowRegisters(layout, width) }),
        bindings: { x: input(0), y: output(0), norm: output(1) },
        params: { rows, width, eps },
        workgroups: rowGrid(layout, rows),
      },
    ];
  },
  derivative: (graph, { outputs: [y, norm], attrs }, [dy]) => [
    y && norm && dy ? graph.one(l2NormalizeBackward, [y, norm, dy], attrs) : null,
  ],
  cost: ([x]) => ({ flops: 3 * elements(x) }),
});

/** dx = (dy - y (y . dy)) / norm, or dy / eps where norm < eps. Inputs: y [R, W], norm [R], dy [R, W]. Output: dx [R, W]. */
export const l2NormalizeBackward = defineOp<Eps>({
  name: 'l2_normalize_backward',
  infer([y, norm, dy]) {
    if (y?.shape.length !== 2 || !sameShape(y.shape, dy?.shape) || !sameShape(norm?.shape, y.shape.slice(0, 1)))
      throw misfit('l2_normalize_backward', { y, norm, dy }, '[R, W], [R], [R, W]');
    return [f32(...y.shape)];
  },
  variants: rowVariants,
  launches({ inputs: [y], attrs: { eps }, target, variant }) {
    const { rows, width, vec4 } = matrix(y);
    const layout = rowLayout(target, width, variant);
    return [
      {
        kernel: l2NormalizeBackwardKernel({ vec4, layout, registers: rowRegisters(layout, width) }),
        bindings: { y: input(0), norm: input(1), dy: input(2), dx: output(0) },
        params: { rows, width, eps },
        workgroups: rowGrid(layout, rows),
      },
    ];
  },
  cost: ([y]) => ({ flops: 5 * elements(y) }),
});
