import {
  gatherRowsClearKernel,
  gatherRowsGatherKernel,
  gatherRowsScatterKernel,
} from '../../shaders/gather_rows.wgsl.js';
import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { defineOp, GraphError, input, misfit, type NoAttributes, type Op, output } from '../graph/op.js';
import { elements, f32, type Spec } from '../graph/tensor.js';

export { NO_ROW } from '../../shaders/lib/no-row.js';

/** What a matrix is cut into: vec4 or single numbers. */
function cut({ shape: [rows = 1, columns = 1] }: Spec): { vec4: boolean; width: number; count: number } {
  const { vec4, width } = byFour(columns);
  return { vec4, width, count: rows * width };
}

function check(op: string, x: Spec | undefined, index: Spec | undefined): { width: number; indices: number } {
  if (x?.shape.length !== 2 || index?.shape.length !== 1) throw misfit(op, { x, index }, '[R, W], [n]');
  return { width: x.shape[1] ?? 0, indices: index.shape[0] ?? 0 };
}

/**
 * y[j] = x[index[j]], a row of zeros where index[j] is `NO_ROW`. Inputs: x [R, W], index u32 [n]. Output: y [n, W]. All
 * other indices must differ from each other: the derivative does not add.
 */
export const gatherRows: Op<NoAttributes> = defineOp<NoAttributes>({
  name: 'gather_rows',
  words: (i) => i === 1,
  infer([x, index]) {
    const { width, indices } = check('gather_rows', x, index);
    return [f32(indices, width)];
  },
  launches({ inputs: [x], outputs: [y] }) {
    if (!x || !y) throw new GraphError('gather_rows', 'has no x');
    const { vec4, width, count } = cut(y);
    return [
      {
        kernel: gatherRowsGatherKernel({ vec4 }),
        bindings: { x: input(0), index: input(1), y: output(0) },
        params: { count, width, rows: x.shape[0] ?? 0 },
        workgroups: eachGrid(count),
      },
    ];
  },
  derivative(graph, { inputs: [x, index] }, [dy]) {
    if (!x || !index || !dy) return [null, null];
    return [graph.one(scatterRows, [dy, index], { rows: x.shape[0] ?? 0 }), null];
  },
  cost: (_inputs, [y]) => ({ bytes: 8 * elements(y) }),
});

/** x[index[j]] = y[j], all other rows zero. Inputs: y [n, W], index u32 [n] as for `gatherRows`. Output: x [rows, W]. */
export const scatterRows: Op<{ rows: number }> = defineOp<{ rows: number }>({
  name: 'scatter_rows',
  words: (i) => i === 1,
  infer([y, index], { rows }) {
    const { width, indices } = check('scatter_rows', y, index);
    if (y?.shape[0] !== indices) throw misfit('scatter_rows', { y, index }, '[n, W], [n]');
    return [f32(rows, width)];
  },
  launches({ inputs: [y], outputs: [x], attrs: { rows } }) {
    if (!x || !y) throw new GraphError('scatter_rows', 'has no y');
    const { vec4, width, count } = cut(y);
    const all = cut(x).count;
    return [
      {
        kernel: gatherRowsClearKernel({ vec4 }),
        bindings: { x: output(0) },
        params: { count: all },
        workgroups: eachGrid(all),
      },
      {
        kernel: gatherRowsScatterKernel({ vec4 }),
        bindings: { y: input(0), index: input(1), x: output(0) },
        params: { count, width, rows },
        workgroups: eachGrid(count),
      },
    ];
  },
  derivative(graph, { inputs: [, index] }, [dx]) {
    return [index && dx ? graph.one(gatherRows, [dx, index], {}) : null, null];
  },
});
