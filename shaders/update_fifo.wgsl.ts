// update_fifo: row i of `rows` replaces row (pointer + i) mod N of the memory, then pointer = (pointer + B) mod N.
// Of more rows than the memory holds only the last N are written: each place is written once.
//
//   flag      [1]      u32; not 0: nothing is written
//   memory    [N, d]   changed
//   pointer   [1]      u32: row that is replaced next, changed by the second stage
//   rows      [B, d]
//
// stage `insert`: an element (or four, where d divides by four) an invocation; stage `advance`: one invocation.

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

export function updateFifoInsertKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'update_fifo.insert',
    bindings: { flag: read('u32'), pointer: read('u32'), rows: read(element), memory: write(element) },
    params: { count: 'u32', first_row: 'u32', width: 'u32', size: 'u32' },
    code: each(
      'insert',
      `
  if (flag[0] != 0u) { return; }
  let row = params.first_row + i / params.width;
  let column = i % params.width;
  memory[(pointer[0] + row) % params.size * params.width + column] = rows[row * params.width + column];`,
    ),
  });
}

export function updateFifoAdvanceKernel(): Kernel {
  return kernel({
    label: 'update_fifo.advance',
    bindings: { flag: read('u32'), pointer: write('u32') },
    params: { rows: 'u32', size: 'u32' },
    code: wgsl`
@compute @workgroup_size(1)
fn advance() {
  if (flag[0] == 0u) { pointer[0] = (pointer[0] + params.rows) % params.size; }
}
`,
  });
}
