import { COLUMN_SUM_WORKGROUP, columnSumForwardKernel } from '../../shaders/column_sum.wgsl.js';
import { byFour } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import {
  defineOp,
  GraphError,
  input,
  type Launch,
  type NoAttributes,
  type Operand,
  output,
  scratch,
} from '../graph/op.js';
import { elements, f32, type RealType, realType, type Spec } from '../graph/tensor.js';

/** Up to this many rows one launch sums them; a second dispatch would cost more than it saves. */
const ONE_SPAN = 64;

/** Sums `span` consecutive rows of x [rows, columns] at a time: y [ceil(rows / span), columns]. `types` of both, f32 if not said. */
export function columnSumLaunch(
  x: Operand,
  y: Operand,
  rows: number,
  columns: number,
  span: number,
  { from = 'f32', to = 'f32' }: { readonly from?: RealType; readonly to?: RealType } = {},
): Launch {
  const { vec4, width } = byFour(columns);
  const count = Math.ceil(rows / span) * width;
  return {
    kernel: columnSumForwardKernel({ vec4, from, to }),
    bindings: { x, y },
    params: { rows, columns: width, span, count },
    workgroups: grid(count, COLUMN_SUM_WORKGROUP),
  };
}

/** y = sum over all axes but the last. Input: x [.., N]. Output: y [N], f32. The gradient of a bias. */
export const columnSum = defineOp<NoAttributes>({
  name: 'column_sum',
  halves: [0],
  infer([x]) {
    if (!x) throw new GraphError('column_sum', 'has no input');
    return [f32(matrix(x).columns)];
  },
  scratch({ inputs: [x] }) {
    const { rows, columns, span } = matrix(x);
    return span < rows ? [f32(Math.ceil(rows / span), columns)] : [];
  },
  launches({ inputs: [x] }) {
    const { rows, columns, span } = matrix(x);
    const from = realType(x);
    if (span >= rows) return [columnSumLaunch(input(0), output(0), rows, columns, rows, { from })];
    const spans = Math.ceil(rows / span);
    return [
      columnSumLaunch(input(0), scratch(0), rows, columns, span, { from }),
      columnSumLaunch(scratch(0), output(0), spans, columns, spans),
    ];
  },
  cost: ([x]) => ({ flops: elements(x) }),
});

/** With spans of sqrt(rows) rows both launches have the same, shortest serial part. */
function matrix(x: Spec | undefined): { rows: number; columns: number; span: number } {
  const columns = x?.shape.at(-1) ?? 1;
  const rows = elements(x) / columns;
  return { rows, columns, span: rows <= ONE_SPAN ? rows : Math.ceil(Math.sqrt(rows)) };
}
