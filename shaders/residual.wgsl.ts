// residual: y = x + keep branch, where each sequence of rows has one number keep: stochastic depth (Huang et al., 2016).
//
//   x, branch, y, dy, dbranch   [R, W]
//   keep                        [D, S]   0, or 1 / (1 - rate); row d of it belongs to this branch
//
// forward    y = x + keep branch
// backward   dbranch = keep dy   (dx = dy needs no kernel)
//
// One dispatch for a segment of equally long sequences: element i of the segment is in its sequence i / span.

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

/** All in elements: the segment's `count` begin at `first`, a sequence has `span`; its keeps begin at `first_keep`. */
const PARAMS = { count: 'u32', first: 'u32', span: 'u32', first_keep: 'u32' } as const;

export function residualForward({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'residual.forward',
    bindings: { x: read(element), branch: read(element), keep: read('f32'), y: write(element) },
    params: PARAMS,
    code: each(
      'forward',
      `
  let at = params.first + i;
  y[at] = x[at] + keep[params.first_keep + i / params.span] * branch[at];`,
    ),
  });
}

export function residualBackward({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'residual.backward',
    bindings: { dy: read(element), keep: read('f32'), dbranch: write(element) },
    params: PARAMS,
    code: each(
      'backward',
      `
  let at = params.first + i;
  dbranch[at] = keep[params.first_keep + i / params.span] * dy[at];`,
    ),
  });
}
