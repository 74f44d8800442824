// gather_rows: picks rows by number; scatter_rows puts them back.
//
//   x       [R, W]
//   index   [n]      row numbers, different from each other; NO_ROW stands for a row of zeros
//   y       [n, W]
//
// gather    y[j] = x[index[j]], 0 where index[j] names no row of x
// scatter   x[index[j]] = y[j] for every row named; all other rows stay what `clear` made them: zero

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

/** `count` elements of `width` elements a row; `rows` is R. */
export function gatherRowsGatherKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'gather_rows.gather',
    bindings: { x: read(element), index: read('u32'), y: write(element) },
    params: { count: 'u32', width: 'u32', rows: 'u32' },
    code: each(
      'gather',
      `
  let row = index[i / params.width];
  let there = row < params.rows;
  y[i] = select(${element}(), x[select(0u, row, there) * params.width + i % params.width], there);`,
    ),
  });
}

export function gatherRowsScatterKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'gather_rows.scatter',
    bindings: { y: read(element), index: read('u32'), x: write(element) },
    params: { count: 'u32', width: 'u32', rows: 'u32' },
    code: each(
      'scatter',
      `
  let row = index[i / params.width];
  if (row < params.rows) { x[row * params.width + i % params.width] = y[i]; }`,
    ),
  });
}

export function gatherRowsClearKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'gather_rows.clear',
    bindings: { x: write(element) },
    params: { count: 'u32' },
    code: each('clear', `x[i] = ${element}();`),
  });
}
