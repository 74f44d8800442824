// mean_patches: mean over the patches of each sequence, that is over all its rows but the first, the [CLS] token.
//
//   tokens, dtokens   [R, W]   sequences of `length` rows one after the other
//   mean, dmean       [S, W]
//
// forward    mean[s] = sum_{j >= 1} tokens[s, j] / (length - 1)
// backward   dtokens[s, j] = dmean[s] / (length - 1), 0 for j = 0
//
// One dispatch for a segment of equally long sequences.

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

/** The segment's first row and sequence; `width` in elements; `count`: elements of its part of the result. */
const PARAMS = { count: 'u32', width: 'u32', length: 'u32', first_row: 'u32', first_sequence: 'u32' } as const;

export function meanPatchesForwardKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'mean_patches.forward',
    bindings: { tokens: read(element), mean: write(element) },
    params: PARAMS,
    code: each(
      'forward',
      `
  var at = (params.first_row + i / params.width * params.length) * params.width + i % params.width;
  var sum = ${element}();
  for (var row = 1u; row < params.length; row++) {
    at += params.width;
    sum += tokens[at];
  }
  mean[params.first_sequence * params.width + i] = sum / f32(params.length - 1u);`,
    ),
  });
}

export function meanPatchesBackwardKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'mean_patches.backward',
    bindings: { dmean: read(element), dtokens: write(element) },
    params: PARAMS,
    code: each(
      'backward',
      `
  let row = i / params.width;
  let sequence = params.first_sequence + row / params.length;
  let scale = select(1.0 / f32(params.length - 1u), 0.0, row % params.length == 0u);
  dtokens[params.first_row * params.width + i] = scale * dmean[sequence * params.width + i % params.width];`,
    ),
  });
}
