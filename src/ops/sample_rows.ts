import { eachGrid } from '../../shaders/lib/each.js';
import { sampleRowsForwardKernel } from '../../shaders/sample_rows.wgsl.js';
import { defineOp, output } from '../graph/op.js';
import { u32 } from '../graph/tensor.js';
import { feistelBits } from '../rng.js';
import { checkDraw, type Draw } from './draws.js';

export type SampleRowsAttributes = Draw & { readonly from: number };

/**
 * `count` different rows of `from`, uniform without replacement (anchors: the paper's Section 2.2.1). No inputs.
 * Output: index u32 [count].
 */
export const sampleRows = defineOp<SampleRowsAttributes>({
  name: 'sample_rows',
  infer(_inputs, attrs) {
    checkDraw('sample_rows', attrs, attrs.from);
    return [u32(attrs.count)];
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
});
