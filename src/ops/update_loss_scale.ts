import { eachGrid, eachLayout } from '../../shaders/lib/each.js';
import { updateLossScaleAdaptKernel, updateLossScaleUnscaleKernel } from '../../shaders/update_loss_scale.wgsl.js';
import { defineOp, input, misfit, type NoAttributes, output } from '../graph/op.js';
import { elements, moved, u32 } from '../graph/tensor.js';

/**
 * Adapts the scale of the loss after a step. Inputs: flag u32 [1], scale [1], counts u32 [2] (steps since the scale last
 * changed, skipped steps in all), all of them changed. Output: overflow u32 [1], the flag of a step that was skipped for its
 * gradients' overflow, which is lowered, else 0. After `interval` good steps the scale doubles, with an overflow it halves.
 * A flag of 1 (the loss), and any flag at a scale of 1, stays up.
 */
export const updateLossScale = defineOp<{ readonly interval: number }>({
  name: 'update_loss_scale',
  words: (i) => i !== 1,
  updates: [0, 1, 2],
  infer([flag, scale, counts]) {
    if ([flag, scale, counts].map(elements).join() !== '1,1,2')
      throw misfit('update_loss_scale', { flag, scale, counts }, '[1], [1], [2]');
    return [u32(1)];
  },
  launches: ({ attrs: { interval } }) => [
    {
      kernel: updateLossScaleAdaptKernel(),
      bindings: { flag: input(0), scale: input(1), counts: input(2), overflow: output(0) },
      params: { interval },
      workgroups: [1, 1, 1],
    },
  ],
});

/** gradients = gradients / scale. Inputs: gradients [4 n] (changed), scale [1]. No outputs. */
export const updateLossScaleGradients = defineOp<NoAttributes>({
  name: 'update_loss_scale_gradients',
  updates: [0],
  infer([gradients]) {
    if (elements(gradients) % 4 !== 0) throw misfit('update_loss_scale_gradients', { gradients }, '[4 n]');
    return [];
  },
  launches({ inputs: [gradients], target }) {
    const count = elements(gradients) / 4;
    const layout = eachLayout(target);
    return [
      {
        kernel: updateLossScaleUnscaleKernel({ layout }),
        bindings: { gradients: input(0), scale: input(1) },
        params: { count },
        workgroups: eachGrid(count, layout),
      },
    ];
  },
  cost: ([gradients]) => ({ flops: elements(gradients), bytes: 2 * moved(gradients) }),
});
