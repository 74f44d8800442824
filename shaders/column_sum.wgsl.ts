// column_sum: y_c = sum_r x_rc, in one launch of a kernel, or in two: always in the same order, so that x gives the same bits.
//
//   x   [rows, columns]
//   y   [spans, columns]   y[s] = sum of the rows s * span ... of x; a second launch sums these as one span
//
// One invocation adds one column (four where the width divides by four) over one span of rows: neighbours read neighbouring
// addresses, and nothing waits for anything. Written without `each`: inside its if, lavapipe masks the loads of the loop and
// takes 1.4 times as long (12608 x 384).

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { elementType } from './lib/each.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

export const COLUMN_SUM_WORKGROUP = 64;

/** `columns` counts elements of the binding: groups of four columns with `vec4`. */
export function columnSumForwardKernel({ vec4, from, to }: { vec4: boolean; from: RealType; to: RealType }): Kernel {
  const [x, y] = [reals('x', vec4, from), reals('y', vec4, to)];
  return kernel({
    label: 'column_sum.forward',
    bindings: { x: read(x.element), y: write(y.element) },
    params: { rows: 'u32', columns: 'u32', span: 'u32', count: 'u32' },
    code: wgsl`${GRID}
@compute @workgroup_size(${COLUMN_SUM_WORKGROUP})
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  let i = flat_group(workgroup, groups) * ${COLUMN_SUM_WORKGROUP}u + local;
  let begin = (i / params.columns) * params.span;
  let end = select(begin, min(params.rows, begin + params.span), i < params.count);
  var at = begin * params.columns + i % params.columns;
  var sum = ${elementType(vec4)}();
  for (var row = begin; row < end; row++) {
    sum += ${x.at('at')};
    at += params.columns;
  }
  if (i < params.count) { ${y.put('i', 'sum')} }
}
`,
  });
}
