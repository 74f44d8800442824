import { eachGrid } from '../../shaders/lib/each.js';
import { selectRowsRankKernel, selectRowsWeighKernel } from '../../shaders/select_rows.wgsl.js';
import { defineOp, GraphError, input, misfit, output, type Scalar, scratch } from '../graph/op.js';
import { u32 } from '../graph/tensor.js';

/** `stream` tells draws of one step apart; `seed` and `step` are u32 scalars. */
export type SelectRowsAttributes = {
  readonly count: number;
  readonly stream: number;
  readonly seed: Scalar;
  readonly step: Scalar;
};

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
  infer([candidates, score], { count, stream, seed, step }) {
    const [rows = 0] = candidates?.shape ?? [];
    const fits = candidates?.shape.length === 1 && score?.shape.length === 2 && score.shape[0] === rows;
    if (!fits || candidates.dtype !== 'u32' || (score.shape[1] ?? 0) < 2)
      throw misfit('select_rows', { candidates, score }, 'u32 [M], [M, k] with k >= 2');
    if (!(count >= 1 && count <= rows)) throw new GraphError('select_rows', `${count} of ${rows} candidates`);
    if (!(Number.isInteger(stream) && stream >= 0 && stream < 2 ** 32))
      throw new GraphError('select_rows', `stream ${stream} is no u32`);
    if (seed.dtype !== 'u32' || step.dtype !== 'u32')
      throw new GraphError('select_rows', `seed ${seed.dtype} and step ${step.dtype} are not both u32`);
    return [u32(count)];
  },
  scratch: ({ inputs: [candidates] }) => [u32(4 * quadsOf(candidates?.shape))],
  launches({ inputs: [candidates, score], attrs: { count, stream, seed, step } }) {
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
      {
        kernel: selectRowsRankKernel(),
        bindings: { candidates: input(0), keys: scratch(0), anchors: output(0) },
        params: { count: rows, quads, selected: count },
        workgroups: eachGrid(rows),
      },
    ];
  },
  cost: ([candidates, score], _outputs, { count }) => {
    const [rows = 0] = candidates?.shape ?? [];
    return { flops: 0, bytes: 4 * (rows * (1 + (score?.shape[1] ?? 0)) + count) };
  },
});

/** Keys are compared four at a time. */
function quadsOf(shape: readonly number[] = []): number {
  return Math.ceil((shape[0] ?? 0) / 4);
}
