import { eachGrid } from '../../shaders/lib/each.js';
import { neighboursClearKernel, neighboursMarkKernel } from '../../shaders/neighbours.wgsl.js';
import { type Attributes, defineOp, GraphError, input, type Launch, misfit, output, scratch } from '../graph/op.js';
import { elements, f32, u32 } from '../graph/tensor.js';
import { mergeLaunch, partialLists, planSearch, searchLaunches, searchVariants } from './search.js';

/** Lists are kept in registers: no longer than this. `sop.<level>.neighbours` allows as many. */
export const MAX_NEIGHBOURS = 16;

/** `k`: neighbours of an anchor. `search`: whether rows that are anchors of this call may be found. */
export type NeighboursAttributes = Attributes & {
  readonly k: number;
  readonly search: 'all' | 'non-anchors';
};

/**
 * The k rows of a memory most similar to each anchor: exact, the anchor's own row left out, ties to the lower row (the
 * paper's Section 2.2.1). Rows have unit norm, so that the score, their dot product, is the cosine; it is not clamped.
 *
 * Inputs: memory [N, d], anchors u32 [K], different rows of the memory. Outputs: index u32 [K, k], score f32 [K, k], most
 * similar first. A score that is not a number is never found; where fewer than k are left an entry is row 0 with -3e38.
 * No derivative: memories get none.
 */
export const neighbours = defineOp<NeighboursAttributes>({
  name: 'neighbours',
  words: (i) => i === 1,
  infer([memory, anchors], { k, search }) {
    const [rows = 0] = memory?.shape ?? [];
    const [count = 0] = anchors?.shape ?? [];
    if (memory?.shape.length !== 2 || anchors?.shape.length !== 1)
      throw misfit('neighbours', { memory, anchors }, '[N, d], [K]');
    const found = search === 'all' ? rows - 1 : rows - count;
    if (!Number.isInteger(k) || k < 1 || k > Math.min(MAX_NEIGHBOURS, found)) {
      throw new GraphError('neighbours', `${k} of ${found} rows searched, at least 1 and at most ${MAX_NEIGHBOURS}`);
    }
    return [u32(count, k), f32(count, k)];
  },
  variants: ({ inputs: [memory, anchors], target }) => searchVariants(memory, anchors?.shape[0] ?? 1, target),
  scratch({ inputs: [memory, anchors], attrs: { k, search }, target, variant }) {
    const [count = 1] = anchors?.shape ?? [];
    const plan = planSearch(memory, k, count, target, variant);
    return [
      ...(plan.ranges > 1 ? partialLists(plan, count) : []),
      ...(search === 'non-anchors' ? [u32(plan.rows)] : []),
    ];
  },
  launches({ inputs: [memory, anchors], attrs: { k, search }, target, variant }) {
    const [count = 1] = anchors?.shape ?? [];
    const plan = planSearch(memory, k, count, target, variant);
    const { rows, ranges } = plan;
    const several = ranges > 1;
    const marks = scratch(several ? 2 : 0);
    const best = { index: output(0), score: output(1) };
    const found = several ? { index: scratch(0), score: scratch(1) } : best;
    const mark: Launch[] = [
      {
        kernel: neighboursClearKernel(),
        bindings: { marks },
        params: { count: rows },
        workgroups: eachGrid(rows),
      },
      {
        kernel: neighboursMarkKernel(),
        bindings: { anchors: input(1), marks },
        params: { count, rows },
        workgroups: eachGrid(count),
      },
    ];
    const marked = search === 'non-anchors';
    const call = { memory: input(0), anchors: input(1), first: 0, count, ...(marked && { marks }) };
    return [
      ...(marked ? mark : []),
      ...searchLaunches(plan, call, found),
      ...(several ? [mergeLaunch(plan, call, found, best)] : []),
    ];
  },
  cost: ([memory, anchors]) => ({ flops: 2 * elements(memory) * elements(anchors) }),
});
