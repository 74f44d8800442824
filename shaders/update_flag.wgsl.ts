// update_flag: a flag of 0 stays so if every element of all inputs is finite, else it becomes 1 + the number of the first
// that is not, counted through the inputs one after the other; any other flag stays. Elements are read as bits: comparisons
// of floats lose NaN.
//
//   x         [n]        one of the inputs
//   found     [spans]    u32: number of the first non-finite element of each span, NOTHING without one
//   flag      [1]        u32, changed
//
// stage `span`, once an input: a workgroup finds the first of FLAG_SPAN elements; stage `first`: one workgroup, the first of all.

import type { Kernel } from '../src/graph/kernel.js';
import { FINITE } from './lib/finite.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

export const FLAG_SPAN = 4096;

const FIRST = wgsl`
const NOTHING = 0xffffffffu;
var<workgroup> least: atomic<u32>;
/** Smallest of the values of a workgroup. */
fn first_of(local: u32, value: u32) -> u32 {
  if (local == 0u) { atomicStore(&least, NOTHING); }
  workgroupBarrier();
  atomicMin(&least, value);
  workgroupBarrier();
  return atomicLoad(&least);
}
`;

export function updateFlagSpanKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'update_flag.span',
    bindings: { x: read('u32'), found: write('u32') },
    params: { count: 'u32', spans: 'u32', first_element: 'u32', first_span: 'u32' },
    code: wgsl`${GRID}${FINITE}${FIRST}
@compute @workgroup_size(${lanes})
fn span(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, groups);
  let end = min(params.count, (group + 1u) * ${FLAG_SPAN}u);
  var value = NOTHING;
  for (var i = group * ${FLAG_SPAN}u + local; i < end; i += ${lanes}u) {
    if (nonfinite(x[i])) { value = min(value, params.first_element + i); }
  }
  let result = first_of(local, value);
  if (local == 0u && group < params.spans) { found[params.first_span + group] = result; }
}
`,
  });
}

export function updateFlagFirstKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'update_flag.first',
    bindings: { found: read('u32'), flag: write('u32') },
    params: { count: 'u32' },
    code: wgsl`${FIRST}
@compute @workgroup_size(${lanes})
fn first(@builtin(local_invocation_index) local: u32) {
  var value = NOTHING;
  for (var i = local; i < params.count; i += ${lanes}u) { value = min(value, found[i]); }
  let result = first_of(local, value);
  // NOTHING + 1 wraps to 0: all finite.
  if (local == 0u && flag[0] == 0u) { flag[0] = result + 1u; }
}
`,
  });
}
