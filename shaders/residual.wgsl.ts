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
import type { RealType } from '../src/graph/tensor.js';
import { type EachLayout, each } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

/** In elements: `count` of one sequence, the segment's `first`; `first_keep`: number of its first sequence's keep. */
const PARAMS = { count: 'u32', first: 'u32', first_keep: 'u32' } as const;

export interface ResidualVariant {
  readonly vec4: boolean;
  readonly layout: EachLayout;
  readonly type: RealType;
}

export function residualForwardKernel({ vec4, layout, type }: ResidualVariant): Kernel {
  const [x, branch, y] = [reals('x', vec4, type), reals('branch', vec4, type), reals('y', vec4, type)];
  return kernel({
    label: 'residual.forward',
    bindings: { x: read(x.element), branch: read(branch.element), keep: read('f32'), y: write(y.element) },
    params: PARAMS,
    code: each(
      'forward',
      `
  let at = params.first + batch * params.count + i;
  ${y.put('at', `${x.at('at')} + keep[params.first_keep + batch] * ${branch.at('at')}`)}`,
      { ...layout, batched: true },
    ),
  });
}

export function residualBackwardKernel({ vec4, layout, type }: ResidualVariant): Kernel {
  const [dy, dbranch] = [reals('dy', vec4, type), reals('dbranch', vec4, type)];
  return kernel({
    label: 'residual.backward',
    bindings: { dy: read(dy.element), keep: read('f32'), dbranch: write(dbranch.element) },
    params: PARAMS,
    code: each(
      'backward',
      `
  let at = params.first + batch * params.count + i;
  ${dbranch.put('at', `keep[params.first_keep + batch] * ${dy.at('at')}`)}`,
      { ...layout, batched: true },
    ),
  });
}
