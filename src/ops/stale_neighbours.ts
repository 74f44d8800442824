import { eachGrid } from '../../shaders/lib/each.js';
import { tileRows } from '../../shaders/lib/row-tile.js';
import { staleClear, staleCompact, staleMark } from '../../shaders/stale_neighbours.wgsl.js';
import type { Target } from '../gpu/target.js';
import { defineOp, GraphError, input, type Launch, misfit, output, scratch } from '../graph/op.js';
import { bytes, elements, f32, type Spec, u32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';
import { anchorsOfDispatch, mergeLaunch, partialLists, planSearch, searchLaunches } from './search.js';

/** `k`: a list that is shorter is stale. `capacity`: entries of a list, m. */
export type StaleNeighboursAttributes = { readonly k: number; readonly capacity: number };

/** Share of the drawn rows whose lists are expected to be stale: 1.4 to 2.9 % in a simulation with m = 2 k. */
const EXPECTED = 1 / 32;

/**
 * Of the rows drawn as anchors those whose neighbour list is shorter than k, and their lists anew, from a search of the whole
 * memory. How many there are only the device knows: the searches are dispatched indirectly, in chunks, up to all drawn rows.
 *
 * Inputs: memory [N, d], length u32 [N], drawn u32 [n] (one or more, each of different rows). With C = min(N, all n together)
 * outputs: rows u32 [C], stale ones ascending, then `NO_ROW`; total u32 [1]; slot u32 [N], the place of a row in `rows` or
 * `NO_ROW`; index u32 [C, m] and score f32 [C, m], their lists as `neighbours` finds them, empty ones (row 0, -3e38) after
 * the last. No derivative.
 */
export const staleNeighbours = defineOp<StaleNeighboursAttributes>({
  name: 'stale_neighbours',
  infer([memory, length, ...drawn], { k, capacity }) {
    const [rows = 0] = memory?.shape ?? [];
    const lists = drawn.every(({ shape, dtype }) => shape.length === 1 && dtype === 'u32');
    if (memory?.shape.length !== 2 || length?.shape[0] !== rows || drawn.length === 0 || !lists) {
      const given = { memory, length, ...Object.fromEntries(drawn.map((spec, i) => [`drawn ${i}`, spec])) };
      throw misfit('stale_neighbours', given, '[N, d], [N], and one or more u32 [n]');
    }
    if (!(k >= 1 && k <= capacity && k < rows))
      throw new GraphError('stale_neighbours', `${k} neighbours of ${rows} rows in lists of ${capacity}`);
    const most = Math.min(rows, drawnRows(drawn));
    return [u32(most), u32(1), u32(rows), u32(most, capacity), f32(most, capacity)];
  },
  scratch({ inputs: [memory], outputs: [rows], attrs, target }) {
    const { plan, chunk, chunks } = cut(memory, rows, attrs, target);
    return [u32(chunks, 3), ...partialLists(plan, chunk)];
  },
  launches({ inputs: [memory, , ...drawn], outputs: [rows], attrs, target }) {
    const { plan, most, chunk, chunks } = cut(memory, rows, attrs, target);
    const size = plan.rows;
    const slot = output(2);
    const marks = drawn.map(({ shape: [count = 0] }, i): Launch => {
      const bindings = { drawn: input(2 + i), length: input(1), slot };
      return { kernel: staleMark(), bindings, params: { count, rows: size, k: attrs.k }, workgroups: eachGrid(count) };
    });
    const partial = { index: scratch(1), score: scratch(2) };
    const searches = Array.from({ length: chunks }, (_, i): Launch[] => {
      const first = i * chunk;
      const counted = { total: output(1), workgroups: { operand: scratch(0), first: 3 * i } };
      const call = { memory: input(0), anchors: output(0), first, count: Math.min(chunk, most - first), counted };
      const best = { index: output(3), score: output(4) };
      return [...searchLaunches(plan, call, partial), mergeLaunch(plan, call, partial, best)];
    });
    return [
      { kernel: staleClear(), bindings: { slot }, params: { count: size }, workgroups: eachGrid(size) },
      ...marks,
      {
        kernel: staleCompact({ lanes: lanes(target) }),
        bindings: { slot, rows: output(0), total: output(1), workgroups: scratch(0) },
        params: { size, capacity: most, chunks, chunk, tile: tileRows(plan.tile), ranges: plan.ranges },
        workgroups: [1, 1, 1],
      },
      ...searches.flat(),
    ];
  },
  cost: ([memory], [rows, ...outputs]) => ({
    flops: Math.ceil(EXPECTED * 2 * elements(memory) * (rows?.shape[0] ?? 0)),
    bytes: [memory, ...outputs].reduce((sum, spec) => sum + (spec ? bytes(spec) : 0), 0),
  }),
});

function drawnRows(drawn: readonly Spec[]): number {
  return drawn.reduce((sum, { shape: [count = 0] }) => sum + count, 0);
}

/** The search for the expected number of stale rows, and how many of the most possible one dispatch takes. */
function cut(
  memory: Spec | undefined,
  rows: Spec | undefined,
  { capacity }: StaleNeighboursAttributes,
  target: Target,
) {
  const [most = 1] = rows?.shape ?? [];
  const plan = planSearch(memory, capacity, Math.ceil(EXPECTED * most), target);
  const chunk = Math.min(most, anchorsOfDispatch(plan));
  return { plan, most, chunk, chunks: Math.ceil(most / chunk) };
}
