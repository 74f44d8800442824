// embed_tokens: the sequences that a ViT reads: [CLS], then the patches, each plus the position embedding of its place.
//
//   patches, dpatches            [P, W]           of all sequences, without rows for [CLS]
//   cls, dcls                    [W]
//   pos, dpos                    [length, W]      one for each segment; row 0 belongs to [CLS]
//   masked_embed, dmasked_embed  [W]              stands for the patches whose mask is not 0 ...
//   mask                         [count, length - 1]   ... in the first segment
//   tokens, dtokens              [R, W]
//   partial                      [spans, places, W]    sums over `span` consecutive sequences, place by place
//
// forward            tokens[s, 0] = cls + pos[0]; tokens[s, j] = (mask[s, j-1] ? masked_embed : patches[s, j-1]) + pos[j]
// backward_patches   dpatches[s, j-1] = mask[s, j-1] ? 0 : dtokens[s, j]
// backward_places    partial sums of dpos[j] = sum_s dtokens[s, j]; column_sum adds them
// backward_masked    the same over masked patches only; column_sum adds them over spans, then over places: dmasked_embed
// backward_cls       dcls = sum of dpos[0] over the segments, from the same partial sums: gradients may share a buffer, which
//                    a dispatch that writes one of them must not read
//
// One dispatch for a segment; `first_row` and `first_patch` are its first row of tokens and of patches.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

/** `type`: of patches, tokens and their gradients; parameters and their gradients are f32. */
interface EmbedVariant {
  readonly vec4: boolean;
  readonly masked: boolean;
  readonly type: RealType;
}

/** `count`: elements of the segment's tokens; `width` in elements. */
export function embedTokensForwardKernel({ vec4, masked, type }: EmbedVariant): Kernel {
  const element = elementType(vec4);
  const [patches, tokens] = [reals('patches', vec4, type), reals('tokens', vec4, type)];
  const mask = { masked_embed: read(element), mask: read('u32') };
  return kernel({
    label: 'embed_tokens.forward',
    bindings: {
      patches: read(patches.element),
      cls: read(element),
      pos: read(element),
      ...(masked ? mask : {}),
      tokens: write(tokens.element),
    },
    params: { count: 'u32', width: 'u32', length: 'u32', first_row: 'u32', first_patch: 'u32' },
    code: each(
      'forward',
      wgsl`
  let column = i % params.width;
  let row = i / params.width;
  let place = row % params.length;
  let sequence = row / params.length;
  let patch_row = sequence * (params.length - 1u) + max(place, 1u) - 1u;
  var token = ${patches.at('(params.first_patch + patch_row) * params.width + column')};
#if ${masked}
  token = select(token, masked_embed[column], mask[patch_row] != 0u);
#endif
  token = select(token, cls[column], place == 0u);
  ${tokens.put('params.first_row * params.width + i', 'token + pos[place * params.width + column]')}`,
    ),
  });
}

/** `count`: elements of the segment's patches. */
export function embedTokensBackwardPatchesKernel({ vec4, masked, type }: EmbedVariant): Kernel {
  const [dtokens, dpatches] = [reals('dtokens', vec4, type), reals('dpatches', vec4, type)];
  return kernel({
    label: 'embed_tokens.backward_patches',
    bindings: {
      dtokens: read(dtokens.element),
      ...(masked ? { mask: read('u32') } : {}),
      dpatches: write(dpatches.element),
    },
    params: { count: 'u32', width: 'u32', length: 'u32', first_row: 'u32', first_patch: 'u32' },
    code: each(
      'backward_patches',
      wgsl`
  let patch_row = i / params.width;
  let row = params.first_row + patch_row + patch_row / (params.length - 1u) + 1u;
  var gradient = ${dtokens.at('row * params.width + i % params.width')};
#if ${masked}
  gradient = select(gradient, ${elementType(vec4)}(), mask[patch_row] != 0u);
#endif
  ${dpatches.put('params.first_patch * params.width + i', 'gradient')}`,
    ),
  });
}

/** In elements: `columns` of the places, `stride` of a sequence; `count` = spans * columns; `first`: first token summed. */
const PARTIAL_PARAMS = {
  count: 'u32',
  columns: 'u32',
  stride: 'u32',
  first: 'u32',
  sequences: 'u32',
  span: 'u32',
} as const;

export function embedTokensBackwardPlacesKernel({ vec4, type }: Omit<EmbedVariant, 'masked'>): Kernel {
  const element = elementType(vec4);
  const dtokens = reals('dtokens', vec4, type);
  return kernel({
    label: 'embed_tokens.backward_places',
    bindings: { dtokens: read(dtokens.element), partial: write(element) },
    params: PARTIAL_PARAMS,
    code: each(
      'backward_places',
      `
  let begin = i / params.columns * params.span;
  let end = min(params.sequences, begin + params.span);
  var sum = ${element}();
  for (var s = begin; s < end; s++) { sum += ${dtokens.at('params.first + s * params.stride + i % params.columns')}; }
  partial[i] = sum;`,
    ),
  });
}

export function embedTokensBackwardMaskedKernel({ vec4, type }: Omit<EmbedVariant, 'masked'>): Kernel {
  const element = elementType(vec4);
  const dtokens = reals('dtokens', vec4, type);
  return kernel({
    label: 'embed_tokens.backward_masked',
    bindings: { dtokens: read(dtokens.element), mask: read('u32'), partial: write(element) },
    params: { ...PARTIAL_PARAMS, width: 'u32' },
    code: each(
      'backward_masked',
      `
  let begin = i / params.columns * params.span;
  let end = min(params.sequences, begin + params.span);
  let column = i % params.columns;
  let patches = params.columns / params.width;
  var sum = ${element}();
  for (var s = begin; s < end; s++) {
    let gradient = ${dtokens.at('params.first + s * params.stride + column')};
    sum += select(${element}(), gradient, mask[s * patches + column / params.width] != 0u);
  }
  partial[i] = sum;`,
    ),
  });
}

/** `segment` is the number of the segment that the `partial` of `spans` times `columns` elements belongs to. */
export function embedTokensBackwardClsKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'embed_tokens.backward_cls',
    bindings: { partial: read(element), dcls: write(element) },
    params: { count: 'u32', columns: 'u32', spans: 'u32', segment: 'u32' },
    code: each(
      'backward_cls',
      `
  var sum = select(dcls[i], ${element}(), params.segment == 0u);
  for (var span = 0u; span < params.spans; span++) { sum += partial[span * params.columns + i]; }
  dcls[i] = sum;`,
    ),
  });
}
