// add: y = a + b, element by element.
//
//   a, b, y   [n]
//
// Four elements an invocation where n divides by four: a load instruction is what costs on software adapters.

import type { Kernel } from '../src/graph/kernel.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

export const ADD_WORKGROUP = 64;

export function add({ vec4 }: { vec4: boolean }): Kernel {
  const element = vec4 ? 'vec4<f32>' : 'f32';
  return kernel({
    label: 'add.forward',
    bindings: { a: read(element), b: read(element), y: write(element) },
    params: { count: 'u32' },
    code: wgsl`${GRID}
@compute @workgroup_size(${ADD_WORKGROUP})
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  let i = flat_group(workgroup, count) * ${ADD_WORKGROUP}u + local;
  if (i < params.count) { y[i] = a[i] + b[i]; }
}
`,
  });
}
