// pack_norms: squares[t] = sum of squares of the elements of tensor t of a pack; NaN if any of them is NaN or infinite.
//
//   flat      [n]       tensors one behind the other, each starting at a multiple of four elements
//   blocks    [nb, 2]   u32: start element and number of elements of each block
//   first     [T + 1]   u32: tensor t owns the blocks first[t] ... first[t + 1] - 1
//   sums      [nb]      sum of squares of each block
//   squares   [T]
//
// stage `block`: a workgroup a block; stage `tensor`: a workgroup a tensor. Both pass a non-finite element on as the bits
// of a NaN, written as u32, whatever the arithmetic does. Sums have a fixed shape.

import type { Kernel } from '../src/graph/kernel.js';
import { FINITE } from './lib/finite.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { treeSum } from './lib/reduce.js';

/** Sums over `lanes` invocations; `bad` is set by any of them that met a non-finite number. */
const result = (lanes: number): string => wgsl`${GRID}${FINITE}${treeSum(lanes)}
var<workgroup> bad: atomic<u32>;
fn sum_bits(local: u32, sum: f32, hit: bool) -> u32 {
  if (hit) { atomicStore(&bad, 1u); }
  let total = tree_sum(local, sum);
  return select(bitcast<u32>(total), NAN_BITS, atomicLoad(&bad) == 1u);
}
`;

export function packNormsBlockKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'pack_norms.block',
    bindings: { flat: read('vec4<u32>'), blocks: read('vec2<u32>'), sums: write('u32') },
    params: { count: 'u32' },
    code: wgsl`${result(lanes)}
@compute @workgroup_size(${lanes})
fn block(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, groups);
  let range = blocks[min(group, params.count - 1u)];
  var sum = vec4<f32>(0.0);
  var hit = false;
  for (var i = 4u * local; i < range.y; i += ${4 * lanes}u) {
    // Beyond the last element lies padding, which may hold anything.
    let inside = vec4<u32>(i, i + 1u, i + 2u, i + 3u) < vec4<u32>(range.y);
    let bits = select(vec4<u32>(0u), flat[(range.x + i) / 4u], inside);
    let x = bitcast<vec4<f32>>(bits);
    hit |= nonfinite4(bits);
    sum += x * x;
  }
  let bits = sum_bits(local, (sum.x + sum.y) + (sum.z + sum.w), hit);
  if (local == 0u && group < params.count) { sums[group] = bits; }
}
`,
  });
}

export function packNormsTensorKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'pack_norms.tensor',
    bindings: { sums: read('u32'), first: read('u32'), squares: write('u32') },
    params: { count: 'u32' },
    code: wgsl`${result(lanes)}
@compute @workgroup_size(${lanes})
fn tensor(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, groups);
  let t = min(group, params.count - 1u);
  let end = first[t + 1u];
  var sum = 0.0;
  var hit = false;
  for (var i = first[t] + local; i < end; i += ${lanes}u) {
    hit |= nonfinite(sums[i]);
    sum += bitcast<f32>(sums[i]);
  }
  let bits = sum_bits(local, sum, hit);
  if (local == 0u && group < params.count) { squares[t] = bits; }
}
`,
  });
}
