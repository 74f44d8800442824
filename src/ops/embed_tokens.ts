import {
  embedTokensBackwardClsKernel,
  embedTokensBackwardMaskedKernel,
  embedTokensBackwardPatchesKernel,
  embedTokensBackwardPlacesKernel,
  embedTokensForwardKernel,
} from '../../shaders/embed_tokens.wgsl.js';
import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { defineOp, GraphError, input, type Launch, misfit, output, scratch } from '../graph/op.js';
import { elements, f32, type RealType, real, realType, type Spec, sameShape, showShape } from '../graph/tensor.js';
import { columnSumLaunch } from './column_sum.js';
import {
  checkSegments,
  type PlacedSegment,
  placeSegments,
  type Segment,
  totalRows,
  totalSequences,
} from './segments.js';

type EmbedAttributes = { readonly segments: readonly Segment[]; readonly masked: boolean };

const NAME = 'embed_tokens';

function expect(op: string, what: string, spec: Spec | undefined, ...shape: number[]): void {
  if (!sameShape(spec?.shape, shape)) throw misfit(op, { [what]: spec }, showShape(shape));
}

function expectMask(op: string, mask: Spec | undefined, segments: readonly Segment[]): void {
  expect(op, 'mask', mask, segments[0]?.count ?? 0, (segments[0]?.length ?? 0) - 1);
}

type EmbedSegment = PlacedSegment & { readonly firstPatch: number };

/** The segments with their first patches: each sequence before has one row that is no patch. */
const place = (segments: readonly Segment[]): readonly EmbedSegment[] =>
  placeSegments(segments).map((segment) => ({ ...segment, firstPatch: segment.firstRow - segment.firstSequence }));

/** Sequences of one partial sum: both stages then add sqrt(count) numbers in series. */
const spanOf = ({ count }: Segment): number => Math.ceil(Math.sqrt(count));
const spansOf = (segment: Segment): number => Math.ceil(segment.count / spanOf(segment));

/**
 * The token sequences of a ViT. Inputs: patches [P, W], cls [W], for each segment its position embedding [length, W]; with
 * `masked` also masked_embed [W] and mask u32 [count, length - 1] of the first segment, which puts masked_embed in the place
 * of patches. Output: tokens [R, W], stored as the patches are: each sequence is cls, then its patches, plus the positions.
 */
export const embedTokens = defineOp<EmbedAttributes>({
  name: NAME,
  words: (i, { segments }) => i === 3 + segments.length,
  halves: [0],
  infer(inputs, { segments, masked }) {
    const [patches, cls] = inputs;
    const width = patches?.shape[1] ?? 0;
    const wanted = 2 + segments.length + (masked ? 2 : 0);
    if (inputs.length !== wanted) throw new GraphError(NAME, `${inputs.length} inputs, expected ${wanted}`);
    checkSegments(NAME, segments, totalRows(segments));
    if (segments.some(({ length }) => length < 2)) throw new GraphError(NAME, 'a sequence has no patches');
    expect(NAME, 'patches', patches, totalRows(segments) - totalSequences(segments), width);
    expect(NAME, 'cls', cls, width);
    for (const [s, { length }] of segments.entries())
      expect(NAME, `position embedding ${s}`, inputs[2 + s], length, width);
    if (masked) {
      expect(NAME, 'masked_embed', inputs[2 + segments.length], width);
      expectMask(NAME, inputs[3 + segments.length], segments);
    }
    return [real(patches, totalRows(segments), width)];
  },
  launches({ inputs: [patches], attrs: { segments, masked } }) {
    const { vec4, width } = byFour(patches?.shape[1] ?? 1);
    return place(segments).map(({ count, length, firstRow, firstPatch }, s): Launch => {
      const masks = masked && s === 0;
      const mask = { masked_embed: input(2 + segments.length), mask: input(3 + segments.length) };
      const total = count * length * width;
      return {
        kernel: embedTokensForwardKernel({ vec4, masked: masks, type: realType(patches) }),
        bindings: { patches: input(0), cls: input(1), pos: input(2 + s), ...(masks ? mask : {}), tokens: output(0) },
        params: { count: total, width, length, first_row: firstRow, first_patch: firstPatch },
        workgroups: eachGrid(total),
      };
    });
  },
  derivative(graph, { inputs, attrs }, [dtokens]) {
    if (!dtokens) return inputs.map(() => null);
    const mask = attrs.masked ? inputs.slice(-1) : [];
    const gradients = graph.add(embedTokensBackward, [dtokens, ...mask], attrs);
    return inputs.map((_, i) => gradients[i] ?? null);
  },
  cost: (_inputs, [tokens]) => ({ flops: elements(tokens) }),
});

/**
 * Gradients of `embed_tokens`. Inputs: dtokens [R, W], with `masked` the mask. Outputs, in the order of the forward inputs:
 * dpatches [P, W] (0 where masked), dcls [W], for each segment dpos [length, W], with `masked` dmasked_embed [W]. Sums in two
 * stages of fixed shape.
 */
export const embedTokensBackward = defineOp<EmbedAttributes>({
  name: `${NAME}_backward`,
  words: (i) => i === 1,
  halves: [0],
  infer([dtokens, mask], { segments, masked }) {
    const width = dtokens?.shape[1] ?? 0;
    expect(`${NAME}_backward`, 'dtokens', dtokens, totalRows(segments), width);
    if (masked) expectMask(`${NAME}_backward`, mask, segments);
    const patches = real(dtokens, totalRows(segments) - totalSequences(segments), width);
    const positions = segments.map(({ length }) => f32(length, width));
    return [patches, f32(width), ...positions, ...(masked ? [f32(width)] : [])];
  },
  // The partial sums of one segment after the other; and those over the masked patches of a place.
  scratch({ inputs: [dtokens], attrs: { segments, masked } }) {
    const width = dtokens?.shape[1] ?? 1;
    const partial = f32(Math.max(...segments.map((segment) => spansOf(segment) * segment.length)), width);
    return masked ? [partial, f32((segments[0]?.length ?? 2) - 1, width)] : [partial];
  },
  launches({ inputs: [dtokens], attrs: { segments, masked } }) {
    const columns = dtokens?.shape[1] ?? 1;
    const type = realType(dtokens);
    const placed = place(segments);
    const perSegment = placed.flatMap((segment, s) => segmentLaunches(segment, s, columns, masked && s === 0, type));
    return masked && placed[0]
      ? [...perSegment, ...maskedLaunches(placed[0], columns, 2 + segments.length, type)]
      : perSegment;
  },
  cost: ([dtokens]) => ({ flops: elements(dtokens) }),
});

/** dpatches, dpos and the share in dcls of segment number `s`. */
function segmentLaunches(segment: EmbedSegment, s: number, columns: number, masked: boolean, type: RealType): Launch[] {
  const { count, length, firstRow, firstPatch } = segment;
  const { vec4, width } = byFour(columns);
  const patches = count * (length - 1) * width;
  return [
    {
      kernel: embedTokensBackwardPatchesKernel({ vec4, masked, type }),
      bindings: { dtokens: input(0), ...(masked ? { mask: input(1) } : {}), dpatches: output(0) },
      params: { count: patches, width, length, first_row: firstRow, first_patch: firstPatch },
      workgroups: eachGrid(patches),
    },
    {
      kernel: embedTokensBackwardPlacesKernel({ vec4, type }),
      bindings: { dtokens: input(0), partial: scratch(0) },
      ...partialSums(segment, length * width, length * width, firstRow * width),
    },
    columnSumLaunch(scratch(0), output(2 + s), spansOf(segment), length * columns, spansOf(segment)),
    {
      kernel: embedTokensBackwardClsKernel({ vec4 }),
      bindings: { partial: scratch(0), dcls: output(1) },
      params: { count: width, columns: length * width, spans: spansOf(segment), segment: s },
      workgroups: eachGrid(width),
    },
  ];
}

/** dmasked_embed, output number `result`. The first row of a sequence is no patch, so the sums begin at the second. */
function maskedLaunches(segment: EmbedSegment, columns: number, result: number, type: RealType): Launch[] {
  const { vec4, width } = byFour(columns);
  const patches = segment.length - 1;
  const { params, workgroups } = partialSums(segment, patches * width, segment.length * width, width);
  return [
    {
      kernel: embedTokensBackwardMaskedKernel({ vec4, type }),
      bindings: { dtokens: input(0), mask: input(1), partial: scratch(0) },
      params: { ...params, width },
      workgroups,
    },
    columnSumLaunch(scratch(0), scratch(1), spansOf(segment), patches * columns, spansOf(segment)),
    columnSumLaunch(scratch(1), output(result), patches, columns, patches),
  ];
}

function partialSums(segment: Segment, columns: number, stride: number, first: number) {
  const count = spansOf(segment) * columns;
  const params = { count, columns, stride, first, sequences: segment.count, span: spanOf(segment) };
  return { params, workgroups: eachGrid(count) };
}
