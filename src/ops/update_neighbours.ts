import { eachGrid } from '../../shaders/lib/each.js';
import {
  updateNeighboursFillKernel,
  updateNeighboursInsertKernel,
  updateNeighboursRemoveKernel,
  updateNeighboursReplacedKernel,
} from '../../shaders/update_neighbours.wgsl.js';
import {
  defineOp,
  input,
  type Launch,
  misfit,
  type NoAttributes,
  type OpCall,
  type Operand,
  scratch,
} from '../graph/op.js';
import { elements, f32, moved, type Spec, sameShape, u32 } from '../graph/tensor.js';
import { mergeLaunch, partialLists, planSearch, searchLaunches, searchVariants } from './search.js';

/** Scores of new rows that are kept at a time, bytes. */
const STORED_BYTES = 64 * 2 ** 20;

/**
 * Puts whole lists in the place of others, unless the flag is up.
 * Inputs: flag u32 [1]; rows u32 [C], `NO_ROW` where there is none, index u32 [C, m], score f32 [C, m]; the lists, changed:
 * index u32 [N, m], score f32 [N, m], length u32 [N]. No outputs.
 */
export const updateNeighboursFill = defineOp<NoAttributes>({
  name: 'update_neighbours_fill',
  words: (i) => i !== 3 && i !== 5,
  updates: [4, 5, 6],
  infer([flag, rows, index, score, ...lists]) {
    const [count = 0, capacity = 0] = index?.shape ?? [];
    const kept = capacityOf('update_neighbours_fill', lists);
    const fits = rows?.shape[0] === count && sameShape(score?.shape, index?.shape);
    if (!fits || kept !== capacity)
      throw misfit('update_neighbours_fill', { flag, rows, index, score }, `[1], [C], twice [C, ${kept}]`);
    return [];
  },
  launches: ({ inputs: [, rows, , , index] }) => [
    fill(index, rows?.shape[0] ?? 0, { rows: input(1), fresh_index: input(2), fresh_score: input(3) }, listsAt(4)),
  ],
  cost: ([, , index]) => ({ bytes: 4 * moved(index) }),
});

/** `batch`: rows that were inserted into the memory, B. */
export type UpdateNeighboursInsertAttributes = { readonly batch: number };

/**
 * Keeps lists true after `update_fifo` has put B rows into a memory, unless the flag is up: replaced rows leave all lists, new
 * ones enter those in which they come before the old last entry, and get lists of their own from their comparison with the
 * memory, which costs B x N x d once.
 *
 * Inputs: flag u32 [1]; memory [N, d] and pointer u32 [1] as `update_fifo` left them; the lists, changed: index u32 [N, m],
 * score f32 [N, m], length u32 [N]. No outputs.
 */
export const updateNeighboursInsert = defineOp<UpdateNeighboursInsertAttributes>({
  name: 'update_neighbours_insert',
  words: (i) => i !== 1 && i !== 4,
  updates: [3, 4, 5],
  infer([flag, memory, pointer, ...lists], { batch }) {
    capacityOf('update_neighbours_insert', lists);
    const fits = memory?.shape.length === 2 && lists[0]?.shape[0] === memory.shape[0];
    if (!fits || !(Number.isInteger(batch) && batch > 0)) {
      const shapes = `[1], [${lists[0]?.shape[0]}, d], [1]`;
      throw misfit(
        'update_neighbours_insert',
        { flag, memory, pointer },
        `${shapes} and a batch of 1 or more, not ${batch}`,
      );
    }
    return [];
  },
  variants: ({ inputs: [, memory], attrs: { batch }, target }) =>
    searchVariants(memory, comparedTogether(memory?.shape[0] ?? 1, batch), target),
  scratch(call) {
    const { plan, size, fresh, chunk } = cut(call);
    const { k } = plan;
    const bounds = [u32(size), f32(size)];
    return [u32(fresh), ...bounds, f32(chunk, size), ...partialLists(plan, chunk), u32(fresh, k), f32(fresh, k)];
  },
  launches(call) {
    const { plan, size, fresh, chunk } = cut(call);
    const [, , , index] = call.inputs;
    const [rows, similarity] = [scratch(0), scratch(3)];
    const bound = { bound_index: scratch(1), bound_score: scratch(2) };
    const partial = { index: scratch(4), score: scratch(5) };
    const own = { index: scratch(6), score: scratch(7) };
    const [flag, pointer, lists] = [input(0), input(2), listsAt(3)];
    const params = { count: size, capacity: plan.k, size, fresh };
    const inserts = Array.from({ length: Math.ceil(fresh / chunk) }, (_, i): Launch[] => {
      const [first, count] = [i * chunk, Math.min(chunk, fresh - i * chunk)];
      const call = { memory: input(1), anchors: rows, first, count, similarity };
      return [
        ...searchLaunches(plan, call, partial),
        mergeLaunch(plan, call, partial, own),
        {
          kernel: updateNeighboursInsertKernel(),
          bindings: { flag, pointer, similarity, ...bound, ...lists },
          params: { ...params, first_inserted: first, inserted: count },
          workgroups: eachGrid(size),
        },
      ];
    });
    return [
      {
        kernel: updateNeighboursReplacedKernel(),
        bindings: { pointer, rows },
        params: { count: fresh, size, fresh },
        workgroups: eachGrid(fresh),
      },
      {
        kernel: updateNeighboursRemoveKernel(),
        bindings: { flag, pointer, ...lists, ...bound },
        params,
        workgroups: eachGrid(size),
      },
      ...inserts.flat(),
      fill(index, fresh, { rows, fresh_index: own.index, fresh_score: own.score }, lists),
    ];
  },
  cost: ([, memory], _outputs, { batch }) => ({ flops: 2 * Math.min(batch, memory?.shape[0] ?? 0) * elements(memory) }),
});

/** Operands of the lists, which are inputs from number `first` on. */
function listsAt(first: number) {
  return { index: input(first), score: input(first + 1), length: input(first + 2) };
}

function fill(
  index: Spec | undefined,
  rows: number,
  from: Readonly<Record<'rows' | 'fresh_index' | 'fresh_score', Operand>>,
  lists: Readonly<Record<'index' | 'score' | 'length', Operand>>,
): Launch {
  const [size = 1, capacity = 1] = index?.shape ?? [];
  const count = rows * capacity;
  return {
    kernel: updateNeighboursFillKernel(),
    bindings: { flag: input(0), ...from, ...lists },
    params: { count, capacity, size },
    workgroups: eachGrid(count),
  };
}

/** m of lists that belong together. */
function capacityOf(op: string, lists: readonly Spec[]): number {
  const [index, score, length] = lists;
  const fits = index?.shape.length === 2 && sameShape(index.shape, score?.shape);
  if (lists.length !== 3 || !fits || length?.shape[0] !== index.shape[0])
    throw misfit(op, { index, score, length }, 'lists of [N, m], [N, m], [N]');
  return index.shape[1] ?? 0;
}

/** Of `batch` new rows those that are compared with a memory of `size` rows at a time: as many as scores may be kept of. */
export function comparedTogether(size: number, batch: number): number {
  return Math.max(1, Math.min(batch, size, Math.floor(STORED_BYTES / (4 * size))));
}

/** The search for new rows: of more than the memory holds the last N count. */
function cut({
  inputs: [, memory, , index],
  attrs: { batch },
  target,
  variant,
}: OpCall<UpdateNeighboursInsertAttributes>) {
  const [size = 1] = memory?.shape ?? [];
  const chunk = comparedTogether(size, batch);
  const plan = planSearch(memory, index?.shape[1] ?? 1, chunk, target, variant);
  return { plan, size, fresh: Math.min(batch, size), chunk };
}
