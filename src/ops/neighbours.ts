import { eachGrid } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import { tileRows } from '../../shaders/lib/row-tile.js';
import { neighboursClear, neighboursMark, neighboursMerge, neighboursSearch } from '../../shaders/neighbours.wgsl.js';
import type { Target } from '../gpu/target.js';
import { type Attributes, defineOp, GraphError, input, type Launch, output, scratch } from '../graph/op.js';
import { bytes, f32, type Spec, showShape, u32 } from '../graph/tensor.js';
import { chooseRowTile } from './row-tiles.js';

/** Lists are kept in registers: no longer than this. */
const MAX_NEIGHBOURS = 16;

/** `k`: neighbours of an anchor. `search`: whether rows that are anchors of this call may be found. */
export type NeighboursAttributes = Attributes & {
  readonly k: number;
  readonly search: 'all' | 'non-anchors';
};

/**
 * The k rows of a memory most similar to each anchor: exact, the anchor's own row left out, ties to the lower row (section 3
 * step 2 of the method). Rows have unit norm, so that the score, their dot product, is the cosine; it is not clamped.
 *
 * Inputs: memory [N, d], anchors u32 [K], different rows of the memory. Outputs: index u32 [K, k], score f32 [K, k], most
 * similar first. A score that is not a number is never found; where fewer than k are left an entry is row 0 with -3e38.
 * No derivative: memories get none.
 */
export const neighbours = defineOp<NeighboursAttributes>({
  name: 'neighbours',
  infer([memory, anchors], { k, search }) {
    const [rows = 0] = memory?.shape ?? [];
    const [count = 0] = anchors?.shape ?? [];
    if (memory?.shape.length !== 2 || anchors?.shape.length !== 1 || anchors.dtype !== 'u32') {
      const shapes = `${showShape(memory?.shape ?? [])}, ${showShape(anchors?.shape ?? [])} ${anchors?.dtype}`;
      throw new GraphError('neighbours', `memory and anchors are ${shapes}, not [rows, width], [anchors] u32`);
    }
    const found = search === 'all' ? rows - 1 : rows - count;
    if (!Number.isInteger(k) || k < 1 || k > Math.min(MAX_NEIGHBOURS, found)) {
      throw new GraphError('neighbours', `${k} of ${found} rows searched, at least 1 and at most ${MAX_NEIGHBOURS}`);
    }
    return [u32(count, k), f32(count, k)];
  },
  scratch({ inputs: [memory, anchors], attrs: { k, search }, target }) {
    const { rows, count, ranges } = shape(memory, anchors, target);
    const marks = search === 'non-anchors' ? [u32(rows)] : [];
    return ranges > 1 ? [u32(count, ranges, k), f32(count, ranges, k), ...marks] : marks;
  },
  launches({ inputs: [memory, anchors], attrs: { k, search }, target }) {
    const { rows, width, count, tile, anchorTiles, span, ranges } = shape(memory, anchors, target);
    const several = ranges > 1;
    const marked = search === 'non-anchors';
    const marks = scratch(several ? 2 : 0);
    const [index, score] = several ? [scratch(0), scratch(1)] : [output(0), output(1)];
    const mark: Launch[] = [
      {
        kernel: neighboursClear(),
        bindings: { marks },
        params: { count: rows },
        workgroups: eachGrid(rows),
      },
      {
        kernel: neighboursMark(),
        bindings: { anchors: input(1), marks },
        params: { count, rows },
        workgroups: eachGrid(count),
      },
    ];
    const kernel = neighboursSearch({ tile, k, marked });
    const groups = anchorTiles * ranges;
    const together = Math.max(1, Math.floor(DISPATCH_FLOPS / (2 * tileRows(tile) * span * width)));
    const find = Array.from({ length: Math.ceil(groups / together) }, (_, i): Launch => {
      const [first_group, end_group] = [i * together, Math.min(groups, (i + 1) * together)];
      const places = { first_group, end_group, anchor_tiles: anchorTiles, ranges, span };
      return {
        kernel,
        bindings: { memory: input(0), anchors: input(1), ...(marked && { marks }), index, score },
        params: { rows, width, columns: tile.columns, anchors: count, ...places, entries: tile.rows * k },
        workgroups: grid(end_group - first_group, 1),
      };
    });
    const merge: Launch = {
      kernel: neighboursMerge({ k }),
      bindings: { index, score, best_index: output(0), best_score: output(1) },
      params: { count, entries: ranges * k },
      workgroups: eachGrid(count),
    };
    return [...(marked ? mark : []), ...find, ...(several ? [merge] : [])];
  },
  cost: ([memory, anchors], outputs) => ({
    flops: 2 * (memory?.shape[0] ?? 0) * (memory?.shape[1] ?? 0) * (anchors?.shape[0] ?? 0),
    bytes: [memory, anchors, ...outputs].reduce((sum, spec) => sum + (spec ? bytes(spec) : 0), 0),
  }),
});

/** Work of one dispatch: below 100 ms at 200 GFLOP/s, because drivers of GPUs end what seems to hang. */
const DISPATCH_FLOPS = 2e10;

/** Workgroups that keep an adapter busy: some for each core, or for each multiprocessor. */
const BUSY = { lavapipe: 4, swiftshader: 4, gpu: 256 } as const;

/** Tiles of anchors, and ranges of the memory, `span` rows each: as many as keep the adapter busy. */
function shape(memory: Spec | undefined, anchors: Spec | undefined, target: Target) {
  const [rows = 1, width = 1] = memory?.shape ?? [];
  const [count = 1] = anchors?.shape ?? [];
  const tile = chooseRowTile(target, count, 1);
  const anchorTiles = Math.ceil(count / tileRows(tile));
  const blocks = Math.ceil(rows / tile.columns);
  const span = tile.columns * Math.ceil(blocks / Math.min(blocks, Math.ceil(BUSY[target.kind] / anchorTiles)));
  return { rows, width, count, tile, anchorTiles, span, ranges: Math.ceil(rows / span) };
}
