// sum: y = scale * sum_i x_i, in two stages of fixed shape, so that the same x always gives the same bits.
//
//   x         [n]
//   partial   [groups]   sums of SUM_SPAN consecutive elements each
//   y         [1]
//
// stage `partial`: invocation t of a workgroup adds elements t, t + 64, ... of its span; a tree adds the 64 sums.
// stage `total`: the same over the partial sums, in one workgroup.

import type { Kernel } from '../src/graph/kernel.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { treeSum } from './lib/reduce.js';

const SIZE = 64;
export const SUM_SPAN = 4096;

export function sumPartial(): Kernel {
  return kernel({
    label: 'sum.partial',
    bindings: { x: read('f32'), sums: write('f32') },
    params: { count: 'u32' },
    code: wgsl`${GRID}${treeSum(SIZE)}
@compute @workgroup_size(${SIZE})
fn partial(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, count);
  let end = min(params.count, (group + 1u) * ${SUM_SPAN}u);
  var sum = 0.0;
  for (var i = group * ${SUM_SPAN}u + local; i < end; i += ${SIZE}u) { sum += x[i]; }
  let total = tree_sum(local, sum);
  if (local == 0u && group * ${SUM_SPAN}u < params.count) { sums[group] = total; }
}
`,
  });
}

export function sumTotal(): Kernel {
  return kernel({
    label: 'sum.total',
    bindings: { sums: read('f32'), y: write('f32') },
    params: { count: 'u32', scale: 'f32' },
    code: wgsl`${treeSum(SIZE)}
@compute @workgroup_size(${SIZE})
fn total(@builtin(local_invocation_index) local: u32) {
  var sum = 0.0;
  for (var i = local; i < params.count; i += ${SIZE}u) { sum += sums[i]; }
  let result = tree_sum(local, sum);
  if (local == 0u) { y[0] = params.scale * result; }
}
`,
  });
}
