// support: the support embeddings of K SOPs and what each contributes (the paper's Section 2.2.1).
//
//   memory         [N, d]
//   anchors        [K]          rows of the memory
//   found, score   [K, k]       rows of the memory and their cosine to the anchor, for k > 0
//   support        [K (k + 1), d]   each anchor followed by its neighbours
//   s              [K (k + 1)]      anchor: `anchor_share`; neighbour: its score with `soft`, else `anchor_share`;
//                                   clamped into [1 / K, 1]
//
// One invocation copies one element (four numbers with `vec4`); the first of a row writes s.

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

/** `width` counts elements. `count` = members K width, `members` = k + 1. */
export function supportForwardKernel({
  vec4,
  soft,
  neighbours,
}: {
  vec4: boolean;
  soft: boolean;
  neighbours: boolean;
}): Kernel {
  const element = elementType(vec4);
  const outputs = { support: write(element), s: write('f32') };
  const inputs = { memory: read(element), anchors: read('u32') };
  return kernel({
    label: 'support.forward',
    bindings: {
      ...inputs,
      ...(neighbours ? { found: read('u32') } : {}),
      ...(neighbours && soft ? { score: read('f32') } : {}),
      ...outputs,
    },
    params: { count: 'u32', width: 'u32', members: 'u32', anchor_share: 'f32', least: 'f32' },
    code: wgsl`${each(
      'forward',
      wgsl`
  let j = i / params.width;
  let column = i % params.width;
  let sop = j / params.members;
  let member = j % params.members;
  var row = anchors[sop];
  var share = params.anchor_share;
#if ${neighbours}
  if (member > 0u) {
    let at = sop * (params.members - 1u) + member - 1u;
    row = found[at];
#if ${soft}
    share = score[at];
#endif
  }
#endif
  support[i] = memory[row * params.width + column];
  if (column == 0u) { s[j] = clamp(share, params.least, 1.0); }`,
    )}`,
  });
}
