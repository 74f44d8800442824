// support: the support embeddings of each prototype, gathered, and what each contributes (method.md section 3, steps 3, 4).
//
//   memory         [N, d]
//   anchors        [K]               rows of the memory
//   index, score   [K, k]            neighbours of each anchor and their cosines; absent where k = 0
//   rows           [K (k + 1), d]    anchor 0, its neighbours, anchor 1, ...
//   contributions  [K (k + 1)]
//
// soft:     an anchor gives 1 - smoothing to its own prototype, a neighbour its cosine to the anchor
// one-hot:  each gives 1 - smoothing
// Both are clamped into [1/K, 1]: the cosine of random rows can be negative, a probability cannot.

import type { Kernel } from '../src/graph/kernel.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

export const SUPPORT_WORKGROUP = 64;

/** One invocation an element of `rows`; the first of each row also writes its contribution. */
export function support({ neighbours, soft }: { neighbours: boolean; soft: boolean }): Kernel {
  return kernel({
    label: 'support.forward',
    bindings: {
      memory: read('f32'),
      anchors: read('u32'),
      ...(neighbours && { index: read('u32'), score: read('f32') }),
      rows: write('f32'),
      contributions: write('f32'),
    },
    params: { count: 'u32', width: 'u32', members: 'u32', own: 'f32', least: 'f32' },
    code: wgsl`${GRID}
@compute @workgroup_size(${SUPPORT_WORKGROUP})
fn forward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  let i = flat_group(workgroup, count) * ${SUPPORT_WORKGROUP}u + local;
  if (i >= params.count) { return; }
  let row = i / params.width;
  let column = i % params.width;
  let prototype = row / params.members;
  let member = row % params.members;
  var source = anchors[prototype];
  var share = params.own;
#if ${neighbours}
  if (member > 0u) {
    let place = prototype * (params.members - 1u) + member - 1u;
    source = index[place];
#if ${soft}
    share = score[place];
#endif
  }
#endif
  rows[i] = memory[source * params.width + column];
  if (column == 0u) { contributions[row] = clamp(share, params.least, 1.0); }
}
`,
  });
}
