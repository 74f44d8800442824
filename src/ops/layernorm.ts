import {
  layernormBackwardInputKernel,
  layernormBackwardParametersKernel,
  layernormForwardKernel,
} from '../../shaders/layernorm.wgsl.js';
import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { rowGrid, rowLayout, rowRegisters, rowVariants } from '../../shaders/lib/rows.js';
import { defineOp, input, misfit, output, scratch } from '../graph/op.js';
import {
  elements,
  f32,
  like,
  moved,
  type RealType,
  realType,
  type Spec,
  sameShape,
  showShape,
} from '../graph/tensor.js';
import { columnSumLaunch } from './column_sum.js';

type NoAttributes = Record<string, never>;

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

/** Rows of one partial sum of the parameter gradients: both stages then add sqrt(rows) numbers in series. */
const spanOf = (rows: number): number => Math.ceil(Math.sqrt(rows));

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
    const dx = needX ? graph.one(layernormBackwardInput, [x, gamma, stats, dy], {}) : null;
    if (!needGamma && !needBeta) return [dx, null, null];
    return [dx, ...graph.pair(layernormBackwardParameters, [x, stats, dy], {})];
  },
  cost: ([x], [y]) => ({ flops: 8 * elements(x), bytes: moved(x, y) }),
});

/** Inputs: x [R, W], gamma [W], stats [R, 2], dy [R, W]. Output: dx [R, W], stored as x. */
export const layernormBackwardInput = defineOp<NoAttributes>({
  name: 'layernorm_backward_input',
  halves: [0, 3],
  infer([x, gamma, stats, dy]) {
    check('layernorm_backward_input', x, { gamma, stats, dy }, (rows, width) => [[width], [rows, 2], [rows, width]]);
    return [like(x)];
  },
  variants: rowVariants,
  launches({ inputs: [x, , , dy], target, variant }) {
    const { rows, columns, width, vec4 } = matrix(x);
    const layout = rowLayout(target, width, variant);
    return [
      {
        kernel: layernormBackwardInputKernel({
          vec4,
          layout,
          registers: rowRegisters(layout, width),
          types: typesOf(x, dy),
        }),
        bindings: { x: input(0), gamma: input(1), stats: input(2), dy: input(3), dx: output(0) },
        params: { rows, width, columns },
        workgroups: rowGrid(layout, rows),
      },
    ];
  },
  cost: ([x, , , dy], [dx]) => ({
    flops: 11 * elements(x),
    bytes: moved(x, dy, dx),
  }),
});

/** Inputs: x [R, W], stats [R, 2], dy [R, W]. Outputs: dgamma [W], dbeta [W]. Two stages of fixed shape. */
export const layernormBackwardParameters = defineOp<NoAttributes>({
  name: 'layernorm_backward_parameters',
  halves: [0, 2],
  infer([x, stats, dy]) {
    check('layernorm_backward_parameters', x, { stats, dy }, (rows, width) => [
      [rows, 2],
      [rows, width],
    ]);
    const { columns } = matrix(x);
    return [f32(columns), f32(columns)];
  },
  scratch({ inputs: [x] }) {
    const { rows, columns } = matrix(x);
    const spans = Math.ceil(rows / spanOf(rows));
    return [f32(spans, columns), f32(spans, columns)];
  },
  launches({ inputs: [x, , dy] }) {
    const { rows, columns, width, vec4 } = matrix(x);
    const span = spanOf(rows);
    const spans = Math.ceil(rows / span);
    return [
      {
        kernel: layernormBackwardParametersKernel({ vec4, types: typesOf(x, dy) }),
        bindings: { x: input(0), stats: input(1), dy: input(2), partial_gamma: scratch(0), partial_beta: scratch(1) },
        params: { count: spans * width, rows, width, span },
        workgroups: eachGrid(spans * width),
      },
      columnSumLaunch(scratch(0), output(0), spans, columns, spans),
      columnSumLaunch(scratch(1), output(1), spans, columns, spans),
    ];
  },
  cost: ([x, , dy]) => ({ flops: 5 * elements(x), bytes: moved(x, dy) }),
});
