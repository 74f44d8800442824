// update_ema: target = momentum target + (1 - momentum) source, unless the flag is up.
//
//   flag      [1]      u32; not 0: nothing is written
//   average   [n]      the target, changed
//   source    [>= n]
//
// Computed as target + (1 - momentum) (source - target): 1 - momentum is exact for a momentum of a half or more, and a target
// that equals its source stays what it is.

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
    params: { count: 'u32', momentum_slot: 'u32' },
    scalars: true,
    code: wgsl`${GRID}
@compute @workgroup_size(${lanes})
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  if (flag[0] != 0u) { return; }
  let group = flat_group(workgroup, groups);
  let end = min(params.count, (group + 1u) * ${lanes * EMA_TURNS}u);
  let rest = 1.0 - scalar_f32(params.momentum_slot);
  for (var i = group * ${lanes * EMA_TURNS}u + local; i < end; i += ${lanes}u) {
    let before = average[i];
    average[i] = before + rest * (source[i] - before);
  }
}
`,
  });
}
