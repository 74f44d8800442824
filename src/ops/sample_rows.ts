import { eachGrid } from '../../shaders/lib/each.js';
import { sampleRowsForwardKernel } from '../../shaders/sample_rows.wgsl.js';
import { defineOp, GraphError, output, type Scalar } from '../graph/op.js';
import { u32 } from '../graph/tensor.js';
import { feistelBits } from '../rng.js';

/** `stream` tells draws of one step apart; `seed` and `step` are u32 scalars. */
export type SampleRowsAttributes = {
  readonly count: number;
  readonly from: number;
  readonly stream: number;
  readonly seed: Scalar;
  readonly step: Scalar;
};

/**
 * `count` different rows of `from`, uniform without replacement (anchors: the paper's Section 2.2.1). No inputs.
 * Output: index u32 [count].
 */
export const sampleRows = defineOp<SampleRowsAttributes>({
  name: 'sample_rows',
  infer(_inputs, { count, from, stream, seed, step }) {
    if (!(count >= 1 && count <= from && from <= 2 ** 32))
      throw new GraphError('sample_rows', `${count} different rows of ${from}`);
    if (!(Number.isInteger(stream) && stream >= 0 && stream < 2 ** 32))
      throw new GraphError('sample_rows', `stream ${stream} is no u32`);
    if (seed.dtype !== 'u32' || step.dtype !== 'u32')
      throw new GraphError('sample_rows', `seed ${seed.dtype} and step ${step.dtype} are not both u32`);
    return [u32(count)];
  },
  launches({ attrs: { count, from, stream, seed, step } }) {
    return [
      {
        kernel: sampleRowsForwardKernel(),
        bindings: { index: output(0) },
        params: {
          count,
          total: from,
          half_bits: feistelBits(from),
          stream,
          seed_slot: seed.slot,
          step_slot: step.slot,
        },
        workgroups: eachGrid(count),
      },
    ];
  },
  cost: (_inputs, _outputs, { count }) => ({ flops: 0, bytes: 4 * count }),
});
