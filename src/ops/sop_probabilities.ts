import { type RowTile, rowTileParams, tileRows } from '../../shaders/lib/row-tile.js';
import { rowGrid, rowLayout } from '../../shaders/lib/rows.js';
import {
  type SopVariant,
  sopProbabilitiesNormalizeKernel,
  sopProbabilitiesRowSumsKernel,
  sopProbabilitiesTilesKernel,
  sopProbabilitiesWeightsKernel,
  tileSops,
} from '../../shaders/sop_probabilities.wgsl.js';
import type { Target } from '../gpu/target.js';
import {
  defineOp,
  GraphError,
  input,
  type Launch,
  misfit,
  type OpCall,
  output,
  type Scalar,
  scratch,
} from '../graph/op.js';
import { f32, like, type Spec } from '../graph/tensor.js';
import { columnSumLaunch } from './column_sum.js';
import { dispatchBlocks } from './dispatches.js';
import { chooseTiling, productLaunches } from './matmul.js';
import { chooseRowTile, type RowProducts, rowTileVariants } from './row-tiles.js';

/** `members`: rows of D of each SOP, its anchor and its neighbours. `temperature`: tau. */
export type SopAttributes = { readonly members: number; readonly temperature: Scalar };

/**
 * P(u) = softmax(u D^T / tau) Y: what each embedding has to do with each of K self-organizing prototypes (the paper's
 * Section 2.2.1). Y [J, K] is given by s: row j gives s_j to its own SOP and (1 - s_j) / (K - 1) to every other.
 *
 * Inputs: u [R, d], D [J, d], s [J], J = K members. Outputs: P [R, K]; stats [R, 2], kept for backward: the largest logit of
 * the row and the inverse of the sum of exponentials relative to it. Only u has a gradient. Neither the logits nor Y are
 * stored.
 * @throws GraphError when shapes disagree
 */
export const sopProbabilities = defineOp<SopAttributes>({
  name: 'sop_probabilities',
  infer([u, d, s], { members }) {
    const [rows = 0, depth] = u?.shape ?? [];
    const [count = 0] = d?.shape ?? [];
    if (!u || !d || !s || depth !== d.shape[1] || s.shape[0] !== count || count % members !== 0)
      throw misfit('sop_probabilities', { u, d, s }, `[R, d], [J, d], [J] with J a multiple of ${members} members`);
    return [f32(rows, count / members), f32(rows, 2)];
  },
  scratch(call) {
    const { rows, tiles } = sizes(call);
    return [f32(rows, tiles, 3)];
  },
  variants: (call) => rowTileVariants(call.target, products(call)),
  launches(call) {
    const { rows, sops, depth, count, tiles, variant, params } = sizes(call);
    const layout = rowLayout(call.target, 0);
    const kernel = sopProbabilitiesTilesKernel(variant);
    return [
      ...tileBlocks(call.target, variant, rows, tiles, 2 * rows * count * depth).map(({ first, ...block }) => ({
        kernel,
        bindings: { u: input(0), d: input(1), s: input(2), p: output(0), partial_sums: scratch(0) },
        params: { ...params, tiles, ...first },
        ...block,
      })),
      {
        kernel: sopProbabilitiesNormalizeKernel(layout),
        bindings: { partial_sums: scratch(0), p: output(0), stats: output(1) },
        params: { rows, sops, tiles, tile_sops: tileSops(variant) },
        workgroups: rowGrid(layout, rows),
      },
    ];
  },
  derivative(graph, { inputs: [u, d, s], outputs: [p, stats], attrs }, [dp]) {
    if (!u || !d || !s || !p || !stats) throw new GraphError('sop_probabilities', 'has lost a tensor');
    return [dp ? graph.one(sopProbabilitiesBackward, [u, d, s, stats, p, dp], attrs) : null, null, null];
  },
  cost,
});

/** du of `sop_probabilities`. Inputs: u, D, s, stats, P, dP [R, K]. Output: du [R, d]. */
export const sopProbabilitiesBackward = defineOp<SopAttributes>({
  name: 'sop_probabilities_backward',
  infer: ([u]) => [like(u)],
  scratch(call) {
    const { rows, depth, stride, terms } = backwardSizes(call);
    const sums = [f32(rows, 4), f32(rows, stride)];
    return terms > 1 ? [...sums, f32(terms, rows, depth)] : sums;
  },
  variants: (call) => rowTileVariants(call.target, products(call)),
  launches(call) {
    const { rows, sops, depth, stride, spans, terms, variant, params } = backwardSizes(call);
    const layout = rowLayout(call.target, 0);
    const du = terms > 1 ? scratch(2) : output(0);
    const weigh = sopProbabilitiesWeightsKernel(variant);
    const launches: Launch[] = [
      {
        kernel: sopProbabilitiesRowSumsKernel(layout),
        bindings: { p: input(4), dp: input(5), sums: scratch(0) },
        params: { rows, sops },
        workgroups: rowGrid(layout, rows),
      },
    ];
    for (const { start, product, tiling, term } of spans) {
      const tiles = Math.ceil(product.inner / variant.columns);
      launches.push(
        ...tileBlocks(call.target, variant, rows, tiles, 2 * rows * product.inner * depth).map(
          ({ first, ...block }) => ({
            kernel: weigh,
            bindings: {
              u: input(0),
              d: input(1),
              s: input(2),
              stats: input(3),
              sums: scratch(0),
              dp: input(5),
              w: scratch(1),
            },
            params: { ...params, ...first, span_tile: start / variant.columns, stride },
            ...block,
          }),
        ),
        ...productLaunches(
          {
            ...product,
            operands: { a: scratch(1), b: input(1), bias: input(1), y: du },
            rowStride: stride,
            firstB: start * depth,
            firstY: term * rows * depth,
          },
          tiling,
          call.target,
        ),
      );
    }
    if (terms > 1) launches.push(columnSumLaunch(scratch(2), output(0), terms, rows * depth, terms));
    return launches;
  },
  cost,
});

function products({
  inputs: [u, d],
  attrs: { members },
}: Pick<OpCall<SopAttributes>, 'inputs' | 'attrs'>): RowProducts {
  const [rows = 0, inner = 0] = u?.shape ?? [];
  return { rows, columns: d?.shape[0] ?? 0, inner, unit: members };
}

function sizes(call: OpCall<SopAttributes>) {
  const { members, temperature } = call.attrs;
  const { rows, columns: count, inner: depth } = products(call);
  const sops = count / members;
  const variant: SopVariant = { ...chooseRowTile(call.target, products(call), call.variant), members };
  const params = {
    rows,
    sops,
    depth,
    ...rowTileParams(variant),
    tile_sops: tileSops(variant),
    others: sops > 1 ? 1 / (sops - 1) : 0,
    temperature: temperature.slot,
    span_tile: 0,
  };
  return { rows, sops, depth, count, tiles: Math.ceil(sops / tileSops(variant)), variant, params };
}

/** Tiles of rows and of SOPs, cut where a dispatch would do too much. */
const tileBlocks = (target: Target, tile: RowTile, rows: number, tiles: number, flops: number) =>
  dispatchBlocks(target, [Math.ceil(rows / tileRows(tile)), tiles], flops).map(
    ({ first: [first_tile = 0, first_sop_tile = 0], count: [x = 1, y = 1], flops }) => ({
      first: { first_tile, first_sop_tile },
      workgroups: [x, y, 1] as const,
      flops,
    }),
  );

/** Bytes that the weights of a span may take, where one binding can hold that. */
const SPAN_BYTES = 2 ** 24;

/** The spans of D whose weights exist at a time: du is the sum of weights times D over all of them, in `terms` terms. */
function backwardSizes(call: OpCall<SopAttributes>) {
  const { target } = call;
  const forward = sizes(call);
  const { rows, depth, count, variant } = forward;
  const most = Math.min(SPAN_BYTES, target.maxBindingBytes) / (4 * rows * variant.columns);
  // Lengths and rows of weights that are multiples of four can be loaded by four.
  const unit = most >= 4 ? 4 * variant.columns : variant.columns;
  const span = unit * Math.max(1, Math.min(Math.ceil(count / unit), Math.floor((most * variant.columns) / unit)));
  // Terms of du take no more than the weights do, or one a span.
  const [many, termBytes] = [Math.ceil(count / span), 4 * rows * depth];
  const parts = Math.max(1, Math.floor(Math.min(SPAN_BYTES, target.maxBindingBytes) / termBytes / many));
  let terms = 0;
  const spans = Array.from({ length: many }, (_, i) => {
    const inner = Math.min(span, count - i * span);
    const types = { operands: 'f32', y: 'f32' } as const;
    const product = { transA: false, transB: false, sums: false, batch: 1, rows, columns: depth, inner, types };
    const tiling = chooseTiling(product, target, undefined, parts);
    const term = terms;
    terms += tiling.splits;
    return { start: i * span, product, tiling, term };
  });
  return { ...forward, stride: 4 * Math.ceil(span / 4), spans, terms };
}

/** Forward the logits, backward the weights times D: one product of R x J x d each. */
function cost([u, d]: readonly Spec[]) {
  const [rows = 0, depth = 0] = u?.shape ?? [];
  const [count = 0] = d?.shape ?? [];
  return { flops: rows * count * (2 * depth + 8) };
}
