import { byFour, eachBatchGrid, eachLayout } from '../../shaders/lib/each.js';
import { type ResidualVariant, residualBackwardKernel, residualForwardKernel } from '../../shaders/residual.wgsl.js';
import type { Kernel } from '../graph/kernel.js';
import { defineOp, input, type Launch, misfit, type OpCall, type Operand, output } from '../graph/op.js';
import { elements, like, realType, type Spec, sameShape } from '../graph/tensor.js';
import { checkSegments, placeSegments, type Segment, totalSequences } from './segments.js';

type ResidualAttributes = { readonly row: number; readonly segments: readonly Segment[] };

function check(op: string, x: Spec | undefined, keep: Spec | undefined, { row, segments }: ResidualAttributes): void {
  checkSegments(op, segments, x?.shape[0]);
  const [depth = 0, sequences] = keep?.shape ?? [];
  if (x?.shape.length !== 2 || sequences !== totalSequences(segments) || !(row >= 0 && row < depth))
    throw misfit(op, { x, keep }, `[R, W] and [more than ${row}, ${totalSequences(segments)}]`);
}

/** One launch a segment. */
function launches(
  x: Spec | undefined,
  { attrs: { row, segments }, target }: OpCall<ResidualAttributes>,
  choose: (variant: ResidualVariant) => Kernel,
  bindings: Readonly<Record<string, Operand>>,
): Launch[] {
  const { vec4, width } = byFour(x?.shape[1] ?? 1);
  const layout = eachLayout(target);
  const kernel = choose({ vec4, layout, type: realType(x) });
  return placeSegments(segments).map(({ count: sequences, length, firstRow, firstSequence }) => {
    const count = length * width;
    const params = { count, first: firstRow * width, first_keep: row * totalSequences(segments) + firstSequence };
    return { kernel, bindings, params, workgroups: eachBatchGrid(count, sequences, layout) };
  });
}

/**
 * y = x + keep[row, s] branch, s being the sequence of a row: a residual connection with stochastic depth. Inputs: x [R, W],
 * branch [R, W], stored alike, keep [D, S] (0 or 1 / (1 - rate); has no gradient). Output: y [R, W].
 */
export const residual = defineOp<ResidualAttributes>({
  name: 'residual',
  halves: [0, 1],
  infer([x, branch, keep], attrs) {
    check('residual', x, keep, attrs);
    if (!sameShape(x?.shape, branch?.shape) || x?.dtype !== branch?.dtype)
      throw misfit('residual', { x, branch }, 'x and branch of one shape and type');
    return [like(x)];
  },
  launches: (call) =>
    launches(call.inputs[0], call, residualForwardKernel, {
      x: input(0),
      branch: input(1),
      keep: input(2),
      y: output(0),
    }),
  derivative(graph, { inputs: [, , keep], attrs }, [dy], [, needBranch]) {
    if (!dy || !keep) return [null, null, null];
    return [dy, needBranch ? graph.one(residualBackward, [dy, keep], attrs) : null, null];
  },
  cost: ([x]) => ({ flops: 2 * elements(x) }),
});

/** dbranch = keep[row, s] dy. Inputs: dy [R, W], keep [D, S]. Output: dbranch [R, W]. */
export const residualBackward = defineOp<ResidualAttributes>({
  name: 'residual_backward',
  halves: [0],
  infer([dy, keep], attrs) {
    check('residual_backward', dy, keep, attrs);
    return [like(dy)];
  },
  launches: (call) =>
    launches(call.inputs[0], call, residualBackwardKernel, { dy: input(0), keep: input(1), dbranch: output(0) }),
  cost: ([dy]) => ({ flops: elements(dy) }),
});
