import {
  layernormBackwardKernel,
  layernormBackwardParametersKernel,
  layernormForwardKernel,
} from '../../shaders/layernorm.wgsl.js';
import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { type RowLayout, rowGrid, rowLayout, rowRegisters, rowVariants } from '../../shaders/lib/rows.js';
import { defineOp, input, misfit, type NoAttributes, output, scratch } from '../graph/op.js';
import { elements, f32, like, type RealType, realType, type Spec, sameShape, showShape } from '../graph/tensor.js';
import { columnSumLaunch } from './column_sum.js';

/** @throws GraphError unless x is a matrix [R, W] and the others have the shapes that are said, in terms of its own */
function check(
  op: string,
  x: Spec | undefined,
  others: Readonly<Record<string, Spec | undefined>>,
  shapesFor: (rows: number, width: number) => readonly (readonly number[])[],
): void {
  const [rows = 0, width = 0] = x?.shape ?? [];
  const expected = [[rows, width], ...shapesFor(rows, width)];
  if (![x, ...Object.values(others)].every((spec, i) => sameShape(spec?.shape, expected[i])))
    throw misfit(op, { x, ...others }, expected.map(showShape).join(', '));
}

function matrix(x: Spec | undefined): { rows: number; columns: number; width: number; vec4: boolean } {
  const [rows = 1, columns = 1] = x?.shape ?? [];
  return { rows, columns, ...byFour(columns) };
}

/** Elements of a row that make the pivot of its variance: an eighth of a short row, so that they cost little. */
const samplesOf = (width: number): number => Math.min(8, Math.ceil(width / 8));

const typesOf = (x: Spec | undefined, y: Spec | undefined) => ({ x: realType(x), y: realType(y) });

/**
 * Rows of one partial sum of the parameter gradients: those of a workgroup, where it has the `sums` in registers while it goes
 * through them; else of a kernel of its own sqrt(rows), so that both stages add as many numbers in series.
 */
function spansOf(rows: number, width: number, layout: RowLayout): { sums: boolean; span: number; spans: number } {
  const sums = layout.turns > 1 && rowRegisters(layout, width) > 0;
  const span = sums ? layout.turns : Math.ceil(Math.sqrt(rows));
  return { sums, span, spans: Math.ceil(rows / span) };
}

/**
 * Layer normalisation (Ba et al., 2016) over the last axis, biased variance. Inputs: x [R, W], gamma [W], beta [W]. Outputs:
 * y [R, W], stored as `dtype`, as x where that is not said; stats [R, 2] (mean, 1 / standard deviation), f32, without gradient.
 */
export const layernorm = defineOp<{ readonly eps: number; readonly dtype?: RealType }>({
  name: 'layernorm',
  halves: [0],
  infer([x, gamma, beta], { dtype = realType(x) }) {
    check('layernorm', x, { gamma, beta }, (_, width) => [[width], [width]]);
    return [{ ...like(x), dtype }, f32(x?.shape[0] ?? 0, 2)];
  },
  variants: rowVariants,
  launches({ inputs: [x], outputs: [y], attrs: { eps }, target, variant }) {
    const { rows, columns, width, vec4 } = matrix(x);
    const layout = rowLayout(target, width, variant);
    return [
      {
        kernel: layernormForwardKernel({ vec4, layout, registers: rowRegisters(layout, width), types: typesOf(x, y) }),
        bindings: { x: input(0), gamma: input(1), beta: input(2), y: output(0), stats: output(1) },
        params: { rows, width, columns, eps, samples: samplesOf(width) },
        workgroups: rowGrid(layout, rows),
      },
    ];
  },
  derivative(graph, { inputs: [x, gamma], outputs: [, stats] }, [dy], [needX, needGamma, needBeta]) {
    if (!x || !gamma || !stats || !dy) return [null, null, null];
    const [dx = null, dgamma = null, dbeta = null] = graph.add(layernormBackward, [x, gamma, stats, dy], {});
    return [needX ? dx : null, needGamma ? dgamma : null, needBeta ? dbeta : null];
  },
  cost: ([x]) => ({ flops: 8 * elements(x) }),
});

/**
 * Gradients of `layernorm`. Inputs: x [R, W], gamma [W], stats [R, 2], dy [R, W]. Outputs: dx [R, W], stored as x; dgamma [W],
 * dbeta [W], summed in two stages of fixed shape.
 */
export const layernormBackward = defineOp<NoAttributes>({
  name: 'layernorm_backward',
  halves: [0, 3],
  infer([x, gamma, stats, dy]) {
    check('layernorm_backward', x, { gamma, stats, dy }, (rows, width) => [[width], [rows, 2], [rows, width]]);
    const { columns } = matrix(x);
    return [like(x), f32(columns), f32(columns)];
  },
  variants: rowVariants,
  scratch({ inputs: [x], target, variant }) {
    const { rows, columns, width } = matrix(x);
    const { spans } = spansOf(rows, width, rowLayout(target, width, variant));
    return [f32(spans, columns), f32(spans, columns)];
  },
  launches({ inputs: [x, , , dy], target, variant }) {
    const { rows, columns, width, vec4 } = matrix(x);
    const layout = rowLayout(target, width, variant);
    const { sums, span, spans } = spansOf(rows, width, layout);
    const registers = rowRegisters(layout, width);
    const types = typesOf(x, dy);
    const partials = { partial_gamma: scratch(0), partial_beta: scratch(1) };
    const backward = {
      kernel: layernormBackwardKernel({ vec4, layout, registers, types, sums }),
      bindings: {
        x: input(0),
        gamma: input(1),
        stats: input(2),
        dy: input(3),
        dx: output(0),
        ...(sums ? partials : {}),
      },
      params: { rows, width, columns },
      workgroups: rowGrid(layout, rows),
    };
    const parameters = {
      kernel: layernormBackwardParametersKernel({ vec4, types }),
      bindings: { x: input(0), stats: input(2), dy: input(3), ...partials },
      params: { count: spans * width, rows, width, span },
      workgroups: eachGrid(spans * width),
    };
    return [
      backward,
      ...(sums ? [] : [parameters]),
      columnSumLaunch(scratch(0), output(1), spans, columns, spans),
      columnSumLaunch(scratch(1), output(2), spans, columns, spans),
    ];
  },
  cost: ([x]) => ({ flops: 16 * elements(x) }),
});
