// patchify: cuts images into patches, one row each: what a convolution with stride = kernel = patch multiplies.
//
//   image   [n, C, H, W]
//   rows    [n (H / p) (W / p), C p p]   patches in row-major order; columns in the order channel, y, x
//
// A gather by index arithmetic: element i of the result finds its pixel. Four pixels at a time where p divides by four.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

/** `patch_x` is the width of a patch in elements: groups of four pixels with `vec4`; `first` is in elements too. */
export function patchifyForwardKernel({ vec4, type }: { vec4: boolean; type: RealType }): Kernel {
  const rows = reals('rows', vec4, type);
  return kernel({
    label: 'patchify.forward',
    bindings: { image: read(elementType(vec4)), rows: write(rows.element) },
    params: {
      count: 'u32',
      first: 'u32',
      channels: 'u32',
      patch_y: 'u32',
      patch_x: 'u32',
      grid_y: 'u32',
      grid_x: 'u32',
    },
    code: each(
      'forward',
      `
  var rest = i;
  let x = rest % params.patch_x;
  rest /= params.patch_x;
  let y = rest % params.patch_y;
  rest /= params.patch_y;
  let channel = rest % params.channels;
  rest /= params.channels;
  let cell_x = rest % params.grid_x;
  rest /= params.grid_x;
  let cell_y = rest % params.grid_y;
  let plane = rest / params.grid_y * params.channels + channel;
  let line = (plane * params.grid_y + cell_y) * params.patch_y + y;
  ${rows.put('params.first + i', 'image[(line * params.grid_x + cell_x) * params.patch_x + x]')}`,
    ),
  });
}
