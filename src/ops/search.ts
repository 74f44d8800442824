import { eachGrid } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import { type RowTile, tileRows } from '../../shaders/lib/row-tile.js';
import { neighboursMergeKernel, neighboursSearchKernel } from '../../shaders/neighbours.wgsl.js';
import type { Target } from '../gpu/target.js';
import type { Launch, Operand } from '../graph/op.js';
import { f32, type Spec, u32 } from '../graph/tensor.js';
import { costsOf } from './adapters.js';
import { dispatchParts } from './dispatches.js';
import { chooseRowTile, type RowProducts, rowTileVariants } from './row-tiles.js';

/** The k most similar rows of a memory [rows, width] for each of some anchors, and how the work is cut. */
export interface SearchPlan {
  readonly rows: number;
  readonly width: number;
  readonly k: number;
  readonly tile: RowTile;
  /** Ranges of the memory, `span` rows each: as many as keep the adapter busy. */
  readonly ranges: number;
  readonly span: number;
  readonly target: Target;
}

/** Similarities of about `anchors` anchors to all rows of a memory. */
function similarities(memory: Spec | undefined, anchors: number): RowProducts {
  const [columns = 1, inner = 1] = memory?.shape ?? [];
  return { rows: anchors, columns, inner, unit: 1 };
}

/** Names of the tiles that such a search can choose from, as an op's `variants`. */
export const searchVariants = (memory: Spec | undefined, anchors: number, target: Target): readonly string[] =>
  rowTileVariants(target, similarities(memory, anchors));

/** Plans searches for about `anchors` anchors each, with the tile of `variant` or the target's choice. */
export function planSearch(
  memory: Spec | undefined,
  k: number,
  anchors: number,
  target: Target,
  variant?: string,
): SearchPlan {
  const { columns: rows, inner: width } = similarities(memory, anchors);
  const tile = chooseRowTile(target, similarities(memory, anchors), variant);
  const tiles = Math.ceil(anchors / tileRows(tile));
  const blocks = Math.ceil(rows / tile.columns);
  const wanted = Math.ceil(blocks / Math.min(blocks, Math.ceil(costsOf(target).searches / tiles)));
  // What one workgroup does is more than a dispatch may only of a memory of a million rows.
  const most = Math.floor(target.maxDispatchFlops / groupFlops({ tile, width, span: tile.columns }));
  const span = tile.columns * Math.max(1, Math.min(wanted, most));
  return { rows, width, k, tile, span, ranges: Math.ceil(rows / span), target };
}

/** Work of a workgroup. */
const groupFlops = ({ span, width, tile }: Pick<SearchPlan, 'span' | 'width' | 'tile'>): number =>
  2 * tileRows(tile) * span * width;

/** Anchors that one dispatch may search for, whole tiles: at least one, if only in some of the ranges. */
export function anchorsOfDispatch(plan: SearchPlan): number {
  const tiles = Math.floor(plan.target.maxDispatchFlops / (plan.ranges * groupFlops(plan)));
  return Math.max(1, tiles) * tileRows(plan.tile);
}

/** Ranges that one dispatch may search for a tile of anchors. */
export function rangesOfDispatch(plan: SearchPlan): number {
  return dispatchParts(plan.target, plan.ranges, plan.ranges * groupFlops(plan))[0]?.count ?? 1;
}

/** Lists of each range, of `anchors` anchors: index and score. */
export function partialLists({ ranges, k }: SearchPlan, anchors: number): [index: Spec, score: Spec] {
  return [u32(anchors, ranges, k), f32(anchors, ranges, k)];
}

/** Index and score of lists, sorted by (score down, row up). */
export interface Lists {
  readonly index: Operand;
  readonly score: Operand;
}

/** What a search is told besides its plan. */
export interface SearchCall {
  readonly memory: Operand;
  /** u32: rows of the memory. */
  readonly anchors: Operand;
  /** The part of the anchors that is searched for. */
  readonly first: number;
  readonly count: number;
  /** u32 [rows]: rows that must not be found are marked with 1. */
  readonly marks?: Operand;
  /** u32 [1], how many anchors there are, and the workgroups that follow from it. */
  readonly counted?: { readonly total: Operand; readonly workgroups: NonNullable<Launch['indirect']> };
  /** f32 [count, rows], takes every score. */
  readonly similarity?: Operand;
}

/** The dispatches that leave the lists of each range in `to`: one, or as many as the bound on a dispatch's work asks for. */
export function searchLaunches(plan: SearchPlan, call: SearchCall, to: Lists): Launch[] {
  const { rows, width, k, tile, ranges, span, target } = plan;
  const { memory, anchors, first, count, marks, counted, similarity } = call;
  const kernel = neighboursSearchKernel({ tile, k, marked: !!marks, counted: !!counted, stored: !!similarity });
  const groups = Math.ceil(count / tileRows(tile)) * ranges;
  // Where the device counts the anchors, it is told of as many as one dispatch takes, or of a tile of which each takes some ranges.
  const parts = dispatchParts(target, groups, groups * groupFlops(plan));
  return parts.map(({ first: first_group, count: parted, flops }): Launch => {
    const end_group = first_group + parted;
    return {
      kernel,
      bindings: {
        memory,
        anchors,
        ...(marks && { marks }),
        ...(counted && { total: counted.total }),
        ...(similarity && { similarity }),
        ...to,
      },
      params: {
        rows,
        width,
        columns: tile.columns,
        anchors: count,
        first_anchor: first,
        ranges,
        span,
        first_group,
        end_group,
        entries: tile.rows * k,
      },
      workgroups: grid(parted, 1),
      flops,
      ...(counted && { indirect: counted.workgroups }),
    };
  });
}

/** The dispatch that makes one list of those of all ranges. Anchors beyond those that were counted get empty lists. */
export function mergeLaunch({ k, ranges }: SearchPlan, call: SearchCall, from: Lists, to: Lists): Launch {
  const { first, count, counted } = call;
  return {
    kernel: neighboursMergeKernel({ k, counted: !!counted }),
    bindings: { ...from, ...(counted && { total: counted.total }), best_index: to.index, best_score: to.score },
    params: { count, anchors: count, first_anchor: first, entries: ranges * k, k },
    workgroups: eachGrid(count),
  };
}
