import {
  type AttentionVariant,
  attentionBackwardKernel,
  attentionForwardKernel,
} from '../../shaders/attention.wgsl.js';
import { grid } from '../../shaders/lib/grid.js';
import type { Target } from '../gpu/target.js';
import type { Kernel } from '../graph/kernel.js';
import { defineOp, GraphError, input, type Launch, misfit, type Operand, output, scratch } from '../graph/op.js';
import { f32, like, real, realType, type Spec } from '../graph/tensor.js';
import { dispatchParts } from './dispatches.js';
import { checkSegments, placeSegments, type Segment } from './segments.js';

/** `segments`: the sequences that attend within themselves. */
export type AttentionAttributes = { readonly heads: number; readonly segments: readonly Segment[] };

/**
 * Multi-head self-attention inside each sequence, scores scaled by 1 / sqrt(W / heads).
 *
 * Input: qkv [R, 3 W], columns q, k, v, each head after head (timm). Outputs: out [R, W]; lse [R, heads], the log-sum-exp
 * of the scaled scores, in f32. Scores are never stored.
 * @throws GraphError when shapes, heads and segments disagree
 */
export const attention = defineOp<AttentionAttributes>({
  name: 'attention',
  halves: [0],
  infer([qkv], attrs) {
    const [rows = 0, columns = 0] = qkv?.shape ?? [];
    if (qkv?.shape.length !== 2 || columns % (3 * attrs.heads) !== 0)
      throw misfit('attention', { qkv }, `[R, 3 W] with W a multiple of ${attrs.heads} heads`);
    checkSegments('attention', attrs.segments, rows);
    return [real(qkv, rows, columns / 3), f32(rows, attrs.heads)];
  },
  variants: ({ inputs: [qkv], attrs, target }) => tileNames(headWidthOf(qkv, attrs), target),
  launches: ({ inputs: [qkv], attrs, target, variant }) =>
    launches(2, qkv, attrs, target, variant, attentionForwardKernel, { qkv: input(0), out: output(0), lse: output(1) }),
  derivative(graph, { inputs: [qkv], outputs: [out, lse], attrs }, [dout, dlse]) {
    if (!qkv || !out || !lse) throw new GraphError('attention', 'has lost a tensor');
    if (dlse) throw new GraphError('attention', 'lse has no gradient: it is kept for attention_backward only');
    return [dout ? graph.one(attentionBackward, [qkv, out, lse, dout], attrs) : null];
  },
  cost: ([qkv], _outputs, attrs) => cost(2, qkv, attrs),
});

/** dqkv of `attention`. Inputs: qkv, out, lse, dout [R, W]. Output: dqkv [R, 3 W]. */
export const attentionBackward = defineOp<AttentionAttributes>({
  name: 'attention_backward',
  halves: [0, 1, 3],
  infer([qkv, out, , dout]) {
    if (qkv?.dtype !== out?.dtype || qkv?.dtype !== dout?.dtype)
      throw misfit('attention_backward', { qkv, out, dout }, 'one type');
    return [like(qkv)];
  },
  scratch: ({ inputs: [, , lse] }) => [like(lse)],
  variants: ({ inputs: [qkv], attrs, target }) => tileNames(headWidthOf(qkv, attrs), target),
  launches({ inputs: [qkv], attrs, target, variant }) {
    const common = { qkv: input(0), d_out: input(3), lse: input(2), delta: scratch(0), d_qkv: output(0) };
    return [
      ...launches(3, qkv, attrs, target, variant, (tile) => attentionBackwardKernel(tile, 'query'), {
        ...common,
        out: input(1),
      }),
      ...launches(4, qkv, attrs, target, variant, (tile) => attentionBackwardKernel(tile, 'key'), common),
    ];
  },
  cost: ([qkv], _outputs, attrs) => cost(4, qkv, attrs),
});

/** One launch a segment, or as many as its work asks for: `products` of length x length x head width each. */
function launches(
  products: number,
  qkv: Spec | undefined,
  attrs: AttentionAttributes,
  target: Target,
  name: string | undefined,
  template: (variant: AttentionVariant) => Kernel,
  bindings: Launch['bindings'],
): Launch[] {
  const { heads, segments } = attrs;
  const headWidth = headWidthOf(qkv, attrs);
  return placeSegments(segments).flatMap((segment) => {
    const variant = { ...chooseVariant(headWidth, segment, target, name), type: realType(qkv) };
    const rowTiles = Math.ceil(segment.length / (variant.lanes * variant.owned));
    const groups = rowTiles * heads * segment.count;
    const kernel = template(variant);
    const work = 2 * products * segment.count * heads * segment.length ** 2 * headWidth;
    return dispatchParts(target, groups, work).map(({ first, count, flops }) => ({
      kernel,
      bindings: bindings satisfies Readonly<Record<string, Operand>>,
      params: {
        heads,
        length: segment.length,
        first_row: segment.firstRow,
        row_tiles: rowTiles,
        first_group: first,
        end_group: first + count,
        scale: 1 / Math.sqrt(headWidth),
        chunks: variant.owned * Math.ceil(headWidth / 4),
      },
      workgroups: grid(count, 1),
      flops,
    }));
  });
}

/** Numbers of owned rows that a software adapter keeps well in each array: they live in its first-level cache. */
const SOFTWARE_NUMBERS = 128;

/** Rows that an invocation of a subgroup may own at most, and the name of the variant without subgroups. */
const MOST_OWNED = [4, 3, 2, 1];
const WORKGROUP = 'workgroup';
const subgroupName = (rows: number): string => `subgroup, ${rows} rows`;

/**
 * Variants of a target by name, the one that it takes of itself first. Software adapters have none with barriers, which they
 * take up to minutes to compile and which cost them more than loads.
 */
function tileNames(headWidth: number, { kind, subgroupSize }: Target): readonly string[] {
  if (subgroupSize === 0) return [WORKGROUP];
  const own = subgroupName(Math.max(1, Math.min(4, Math.floor(SOFTWARE_NUMBERS / headWidth))));
  const names = MOST_OWNED.map(subgroupName);
  return kind === 'gpu' ? [WORKGROUP, ...names] : [own, ...names.filter((name) => name !== own)];
}

const headWidthOf = (qkv: Spec | undefined, { heads }: AttentionAttributes): number =>
  (qkv?.shape[1] ?? 0) / (3 * heads);

/**
 * On software adapters one subgroup a workgroup; the rows of an invocation share what is loaded. They compile each unrolled
 * row of a tile anew and gain nothing from more than a load brings; on a GPU it saves barriers.
 */
function chooseVariant(
  headWidth: number,
  { length }: Segment,
  target: Target,
  name = tileNames(headWidth, target)[0],
): Omit<AttentionVariant, 'type'> {
  const chunks = Math.ceil(headWidth / 4);
  const rows = (...most: number[]): number => Math.max(1, Math.floor(Math.min(length, ...most)));
  if (name === WORKGROUP) {
    // Of a streamed row two vectors as long as the head lie in workgroup memory, and backward two numbers.
    const tile = rows(4, (target.sharedBytes / 32 - 1) / chunks);
    return { headWidth, lanes: length > 32 ? 64 : 32, subgroup: false, owned: 1, tile };
  }
  const lanes = target.subgroupSize;
  const most = MOST_OWNED.find((rows) => subgroupName(rows) === name) ?? 1;
  // As many streamed rows as one load by all lanes brings: of a narrow head a single row would leave most lanes idle. More than
  // 16 make a sum that is too deep for compilers.
  return { headWidth, lanes, subgroup: true, owned: ownedRows(length, lanes, most), tile: rows(16, lanes / chunks) };
}

/** Rows of an invocation, at most `most`, for which a pass over the streamed rows (1 to load them, 1 a row) costs least. */
function ownedRows(length: number, lanes: number, most: number): number {
  const costs = Array.from({ length: most }, (_, i) => Math.ceil(length / (lanes * (i + 1))) * (i + 2));
  return costs.lastIndexOf(Math.min(...costs)) + 1;
}

/** `products` matrix products of length x length x head width for each head of each sequence: scores are not counted twice. */
function cost(products: number, qkv: Spec | undefined, { heads, segments }: AttentionAttributes) {
  const width = (qkv?.shape[1] ?? 0) / 3;
  const scores = segments.reduce((sum, { count, length }) => sum + count * length * length, 0);
  return { flops: scores * (2 * products * width + 5 * heads) };
}
