// residual: y = x + keep branch, where each sequence of rows has one number keep: stochastic depth (Huang et al., 2016).
//
//   x, branch, y, dy, dbranch   [R, W]
//   keep                        [D, S]   0, or 1 / (1 - rate); row d of it belongs to this branch
//
// forward    y = x + keep branch
// backward   dbranch = keep dy   (dx = dy needs no kernel)
//
// One dispatch for a segment of equally long sequences, one row of workgroups for a sequence: so keep is one number for a
// workgroup, found without division.

import type { Kernel } from '../src/graph/kernel.js';
import { type EachLayout, each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

/** In elements: `count` of one sequence, the segment's `first`; `first_keep`: number of its first sequence's keep. */
const PARAMS = { count: 'u32', first: 'u32', first_keep: 'u32' } as const;

export function residualForward({ vec4, layout }: { vec4: boolean; layout: EachLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'residual.forward',
    bindings: { x: read(element), branch: read(element), keep: read('f32'), y: write(element) },
    params: PARAMS,
    code: each(
      'forward',
      `
  let at = params.first + batch * params.count + i;
  y[at] = x[at] + keep[params.first_keep + batch] * branch[at];`,
      { ...layout, batched: true },
    ),
  });
}

export function residualBackward({ vec4, layout }: { vec4: boolean; layout: EachLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'residual.backward',
    bindings: { dy: read(element), keep: read('f32'), dbranch: write(element) },
    params: PARAMS,
    code: each(
      'backward',
      `
  let at = params.first + batch * params.count + i;
  dbranch[at] = keep[params.first_keep + batch] * dy[at];`,
      { ...layout, batched: true },
    ),
  });
}
