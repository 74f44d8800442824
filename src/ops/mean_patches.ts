import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { meanPatchesBackwardKernel, meanPatchesForwardKernel } from '../../shaders/mean_patches.wgsl.js';
import { defineOp, input, type Launch, misfit, output } from '../graph/op.js';
import { elements, f32, type Spec } from '../graph/tensor.js';
import {
  checkSegments,
  type PlacedSegment,
  placeSegments,
  type Segment,
  totalRows,
  totalSequences,
} from './segments.js';

type Segments = { readonly segments: readonly Segment[] };

/** One launch a segment; `rowsOf` says how many rows of the result a segment has. */
function launches(
  spec: Spec | undefined,
  { segments }: Segments,
  rowsOf: (segment: PlacedSegment) => number,
  make: (vec4: boolean) => Pick<Launch, 'kernel' | 'bindings'>,
): Launch[] {
  const { vec4, width } = byFour(spec?.shape[1] ?? 1);
  return placeSegments(segments).map((segment) => {
    const count = rowsOf(segment) * width;
    const { length, firstRow, firstSequence } = segment;
    const params = { count, width, length, first_row: firstRow, first_sequence: firstSequence };
    return { ...make(vec4), params, workgroups: eachGrid(count) };
  });
}

/**
 * Mean over the patch tokens of each sequence, all rows but its first. Input: tokens [R, W]. Output: mean [S, W].
 */
export const meanPatches = defineOp<Segments>({
  name: 'mean_patches',
  infer([tokens], { segments }) {
    checkSegments('mean_patches', segments, tokens?.shape[0]);
    if (tokens?.shape.length !== 2 || segments.some(({ length }) => length < 2)) {
      throw misfit('mean_patches', { tokens }, '[R, W] and sequences with patches');
    }
    return [f32(totalSequences(segments), tokens.shape[1] ?? 0)];
  },
  launches: ({ inputs: [tokens], attrs }) =>
    launches(
      tokens,
      attrs,
      ({ count }) => count,
      (vec4) => ({
        kernel: meanPatchesForwardKernel({ vec4 }),
        bindings: { tokens: input(0), mean: output(0) },
      }),
    ),
  derivative: (graph, { attrs }, [dmean]) => [dmean ? graph.one(meanPatchesBackward, [dmean], attrs) : null],
  cost: ([tokens]) => ({ flops: elements(tokens) }),
});

/** dtokens of `mean_patches`. Input: dmean [S, W]. Output: dtokens [R, W], zero for the first row of each sequence. */
export const meanPatchesBackward = defineOp<Segments>({
  name: 'mean_patches_backward',
  infer([dmean], { segments }) {
    if (dmean?.shape.length !== 2 || dmean.shape[0] !== totalSequences(segments))
      throw misfit('mean_patches_backward', { dmean }, `[${totalSequences(segments)}, W]`);
    return [f32(totalRows(segments), dmean.shape[1] ?? 0)];
  },
  launches: ({ inputs: [dmean], attrs }) =>
    launches(
      dmean,
      attrs,
      ({ count, length }) => count * length,
      (vec4) => ({
        kernel: meanPatchesBackwardKernel({ vec4 }),
        bindings: { dmean: input(0), dtokens: output(0) },
      }),
    ),
  cost: (_inputs, [dtokens]) => ({ flops: elements(dtokens) }),
});
