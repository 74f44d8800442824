import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { posResampleBackwardKernel, posResampleForwardKernel } from '../../shaders/pos_resample.wgsl.js';
import type { Kernel } from '../graph/kernel.js';
import { defineOp, input, type Launch, misfit, type Operand, output } from '../graph/op.js';
import { elements, f32, type Spec, sameShape } from '../graph/tensor.js';

/** Grids as [rows, columns] of patches. */
type Grids = { readonly from: readonly [number, number]; readonly to: readonly [number, number] };

function check(op: string, spec: Spec | undefined, [rows, columns]: readonly [number, number]): number {
  if (spec?.shape.length !== 2 || spec.shape[0] !== 1 + rows * columns)
    throw misfit(op, { embedding: spec }, `a row for [CLS] and a grid: [1 + ${rows} x ${columns}, W]`);
  return spec.shape[1] ?? 0;
}

function launch(
  result: Spec | undefined,
  { from, to }: Grids,
  choose: (options: { vec4: boolean }) => Kernel,
  bindings: Readonly<Record<string, Operand>>,
): Launch {
  const [rows = 1, columns = 1] = result?.shape ?? [];
  const { vec4, width } = byFour(columns);
  const count = rows * width;
  // DINO does not touch an embedding that fits: equal a and b make the kernel copy it.
  const tenth = sameShape(from, to) ? 0 : 1;
  const [from_y, from_x, to_y, to_x] = [...from, ...to];
  const [a_y, a_x, b_y, b_x] = [10 * from_y, 10 * from_x, 10 * to_y + tenth, 10 * to_x + tenth];
  return {
    kernel: choose({ vec4 }),
    bindings,
    params: { count, width, from_y, from_x, to_y, to_x, a_y, a_x, b_y, b_x },
    workgroups: eachGrid(count),
  };
}

/**
 * Resamples position embeddings to another grid: bicubic, A = -0.75, no antialias, borders clamped, scale factor
 * (to + 0.1) / from as in DINO; equal grids copy. Input: pos [1 + from, W], row 0 for [CLS]. Output: [1 + to, W].
 */
export const posResample = defineOp<Grids>({
  name: 'pos_resample',
  infer([pos], { from, to }) {
    const width = check('pos_resample', pos, from);
    return [f32(1 + to[0] * to[1], width)];
  },
  launches: ({ outputs: [resampled], attrs }) => [
    launch(resampled, attrs, posResampleForwardKernel, { pos: input(0), resampled: output(0) }),
  ],
  derivative: (graph, { attrs }, [dout]) => [dout ? graph.one(posResampleBackward, [dout], attrs) : null],
  cost: (_pos, [out]) => ({ flops: 40 * elements(out) }),
});

/** The transpose of `posResample`, with its attributes. Input: dout [1 + to, W]. Output: dpos [1 + from, W]. */
export const posResampleBackward = defineOp<Grids>({
  name: 'pos_resample_backward',
  infer([dout], { from, to }) {
    const width = check('pos_resample_backward', dout, to);
    return [f32(1 + from[0] * from[1], width)];
  },
  launches: ({ outputs: [dpos], attrs }) => [
    launch(dpos, attrs, posResampleBackwardKernel, { dout: input(0), dpos: output(0) }),
  ],
  cost: ([dout]) => ({ flops: 40 * elements(dout) }),
});
