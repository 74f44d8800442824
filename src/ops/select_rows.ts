import { eachGrid } from '../../shaders/lib/each.js';
import { selectRowsRankKernel, selectRowsWeighKernel } from '../../shaders/select_rows.wgsl.js';
import { defineOp, input, misfit, output, scratch } from '../graph/op.js';
import { u32 } from '../graph/tensor.js';
import { dispatchParts } from './dispatches.js';
import { checkDraw, type Draw } from './draws.js';

export type SelectRowsAttributes = Draw;

/** Operations of a comparison of two keys: each candidate's is compared with all. */
const COMPARISON = 6;

/**
 * `count` of M candidates, drawn without replacement with weights 1 / (std / (|mean| + 1e-8) + 1e-8) of their k scores,
 * population std: `sop.anchor_selection` low-energy, after the authors' release (whose weights are all equal, since it takes
 * the mean for the std).
 *
 * Inputs: candidates u32 [M], score f32 [M, k], k >= 2. Output: anchors u32 [count], in the order in which a draw one after
 * the other would have found them. No derivative.
 */
export const selectRows = defineOp<SelectRowsAttributes>({
  name: 'select_rows',
  words: (i) => i === 0,
  infer([candidates, score], attrs) {
    const [rows = 0] = candidates?.shape ?? [];
    const fits = candidates?.shape.length === 1 && score?.shape.length === 2 && score.shape[0] === rows;
    if (!fits || (score.shape[1] ?? 0) < 2)
      throw misfit('select_rows', { candidates, score }, '[M], [M, k] with k >= 2');
    checkDraw('select_rows', attrs, rows);
    return [u32(attrs.count)];
  },
  scratch: ({ inputs: [candidates] }) => [u32(4 * quadsOf(candidates?.shape))],
  launches({ inputs: [candidates, score], attrs: { count, stream, seed, step }, target }) {
    const [rows = 0] = candidates?.shape ?? [];
    const quads = quadsOf(candidates?.shape);
    return [
      {
        kernel: selectRowsWeighKernel(),
        bindings: { score: input(1), keys: scratch(0) },
        params: {
          count: 4 * quads,
          candidates: rows,
          neighbours: score?.shape[1] ?? 0,
          stream,
          seed_slot: seed.slot,
          step_slot: step.slot,
        },
        workgroups: eachGrid(4 * quads),
      },
      ...dispatchParts(target, rows, COMPARISON * rows * rows).map(({ first, count: own, flops }) => ({
        kernel: selectRowsRankKernel(),
        bindings: { candidates: input(0), keys: scratch(0), anchors: output(0) },
        params: { count: own, first, quads, selected: count },
        workgroups: eachGrid(own),
        flops,
      })),
    ];
  },
});

/** Keys are compared four at a time. */
function quadsOf(shape: readonly number[] = []): number {
  return Math.ceil((shape[0] ?? 0) / 4);
}
