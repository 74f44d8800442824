// update_ema: target += rate (source - target), unless the flag is up; rate = 1 - momentum.
//
//   flag      [1]      u32; not 0: nothing is written
//   average   [n]      the target, changed
//   source    [>= n]
//
// The rate is given, not the momentum: f32 has steps of 6e-8 below 1, and near the end of a run the rate is as small as that.
// In this form the weights of target and source sum to 1 whatever is rounded: a target that equals its source stays.

import type { Kernel } from '../src/graph/kernel.js';
import { elementType } from './lib/each.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

/** Elements (or fours of them) of one invocation. */
export const EMA_TURNS = 16;

export function updateEmaForwardKernel({ vec4, lanes }: { vec4: boolean; lanes: number }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'update_ema.forward',
    bindings: { flag: read('u32'), average: write(element), source: read(element) },
    params: { count: 'u32', rate_slot: 'u32' },
    scalars: true,
    code: wgsl`${GRID}
@compute @workgroup_size(${lanes})
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  if (flag[0] != 0u) { return; }
  let group = flat_group(workgroup, groups);
  let end = min(params.count, (group + 1u) * ${lanes * EMA_TURNS}u);
  let rate = scalar_f32(params.rate_slot);
  for (var i = group * ${lanes * EMA_TURNS}u + local; i < end; i += ${lanes}u) {
    let before = average[i];
    average[i] = before + rate * (source[i] - before);
  }
}
`,
  });
}
