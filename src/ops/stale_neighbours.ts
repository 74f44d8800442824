import { eachGrid } from '../../shaders/lib/each.js';
import { tileRows } from '../../shaders/lib/row-tile.js';
import {
  staleNeighboursClearKernel,
  staleNeighboursCompactKernel,
  staleNeighboursMarkKernel,
} from '../../shaders/stale_neighbours.wgsl.js';
import { defineOp, GraphError, input, type Launch, misfit, type OpCall, output, scratch } from '../graph/op.js';
import { elements, f32, type Spec, u32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';
import {
  anchorsOfDispatch,
  mergeLaunch,
  partialLists,
  planSearch,
  rangesOfDispatch,
  searchLaunches,
  searchVariants,
} from './search.js';

/** `k`: a list that is shorter is stale. `capacity`: entries of a list, m. `expected`: stale rows that the work is cut for. */
export type StaleNeighboursAttributes = {
  readonly k: number;
  readonly capacity: number;
  readonly expected: number;
};

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
  words: (i) => i > 0,
  infer([memory, length, ...drawn], { k, capacity, expected }) {
    const [rows = 0] = memory?.shape ?? [];
    const lists = drawn.every(({ shape }) => shape.length === 1);
    if (memory?.shape.length !== 2 || length?.shape[0] !== rows || drawn.length === 0 || !lists) {
      const given = { memory, length, ...Object.fromEntries(drawn.map((spec, i) => [`drawn ${i}`, spec])) };
      throw misfit('stale_neighbours', given, '[N, d], [N], and one or more [n]');
    }
    if (!(k >= 1 && k <= capacity && k < rows))
      throw new GraphError('stale_neighbours', `${k} neighbours of ${rows} rows in lists of ${capacity}`);
    const most = Math.min(rows, drawnRows(drawn));
    if (!(expected >= 1 && expected <= most))
      throw new GraphError('stale_neighbours', `${expected} of at most ${most} stale rows expected`);
    return [u32(most), u32(1), u32(rows), u32(most, capacity), f32(most, capacity)];
  },
  variants: ({ inputs: [memory], attrs: { expected }, target }) => searchVariants(memory, expected, target),
  scratch(call) {
    const { plan, chunk, chunks } = cut(call);
    return [u32(chunks, 3), ...partialLists(plan, chunk)];
  },
  launches(call) {
    const { plan, most, chunk, chunks } = cut(call);
    const {
      inputs: [, , ...drawn],
      attrs,
      target,
    } = call;
    const size = plan.rows;
    const slot = output(2);
    const marks = drawn.map(({ shape: [count = 0] }, i): Launch => {
      const bindings = { drawn: input(2 + i), length: input(1), slot };
      return {
        kernel: staleNeighboursMarkKernel(),
        bindings,
        params: { count, rows: size, k: attrs.k },
        workgroups: eachGrid(count),
      };
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
      { kernel: staleNeighboursClearKernel(), bindings: { slot }, params: { count: size }, workgroups: eachGrid(size) },
      ...marks,
      {
        kernel: staleNeighboursCompactKernel({ lanes: lanes(target) }),
        bindings: { slot, rows: output(0), total: output(1), workgroups: scratch(0) },
        params: { size, capacity: most, chunks, chunk, tile: tileRows(plan.tile), ranges: rangesOfDispatch(plan) },
        workgroups: [1, 1, 1],
      },
      ...searches.flat(),
    ];
  },
  typical({ inputs: [, length], attrs: { capacity, expected } }) {
    const known = new Uint32Array(elements(length)).fill(capacity);
    return new Map([[1, known.fill(0, 0, expected)]]);
  },
  cost: ([memory], _outputs, { expected }) => ({ flops: 2 * elements(memory) * expected }),
});

function drawnRows(drawn: readonly Spec[]): number {
  return drawn.reduce((sum, { shape: [count = 0] }) => sum + count, 0);
}

/** The search for the expected number of stale rows, and how many of the most possible one dispatch takes. */
function cut({
  inputs: [memory],
  outputs: [rows],
  attrs: { capacity, expected },
  target,
  variant,
}: OpCall<StaleNeighboursAttributes>) {
  const [most = 1] = rows?.shape ?? [];
  const plan = planSearch(memory, capacity, expected, target, variant);
  const chunk = Math.min(most, anchorsOfDispatch(plan));
  return { plan, most, chunk, chunks: Math.ceil(most / chunk) };
}
