// weighted_sum: y = sum_i w_i x_i over scalars: the total of several losses.
//
//   x   [1]
//   y   [1]
//
// One dispatch a term, in order: `add_term` starts anew with the first and adds the others, whatever their number.

import type { Kernel } from '../src/graph/kernel.js';
import { kernel, read, write } from './lib/kernel.js';

/** `term` is the number of this term. */
export function weightedSumAddTermKernel(): Kernel {
  return kernel({
    label: 'weighted_sum.add_term',
    bindings: { x: read('f32'), y: write('f32') },
    params: { weight: 'f32', term: 'u32' },
    code: `
@compute @workgroup_size(1)
fn add_term() {
  let before = select(y[0], 0.0, params.term == 0u);
  y[0] = before + params.weight * x[0];
}
`,
  });
}
