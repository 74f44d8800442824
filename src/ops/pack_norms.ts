import { grid } from '../../shaders/lib/grid.js';
import { packNormsBlockKernel, packNormsTensorKernel } from '../../shaders/pack_norms.wgsl.js';
import { defineOp, input, misfit, type NoAttributes, output, scratch } from '../graph/op.js';
import { elements, f32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';

/** Most elements of a block: enough to keep a workgroup busy, few enough that a small model fills the adapter. */
export const PACK_BLOCK = 4096;

/**
 * Sum of squares of each tensor of a pack; NaN, by bits, for a tensor with an element that is not finite.
 * Inputs: flat [n], blocks u32 [nb, 2], first u32 [T + 1], as `packBlocks` of src/optim makes them. Output: squares [T].
 */
export const packNorms = defineOp<NoAttributes>({
  name: 'pack_norms',
  words: (i) => i > 0,
  infer([flat, blocks, first]) {
    const fits = flat?.shape.length === 1 && blocks?.shape[1] === 2 && elements(first) > 1;
    if (!fits || elements(flat) % 4 !== 0)
      throw misfit('pack_norms', { flat, blocks, first }, '[4 m], [nb, 2], [T + 1]');
    return [f32(elements(first) - 1)];
  },
  scratch: ({ inputs: [, blocks] }) => [f32(blocks?.shape[0] ?? 0)],
  launches({ inputs: [, blocks], outputs: [squares], target }) {
    const count = blocks?.shape[0] ?? 0;
    const tensors = elements(squares);
    const variant = { lanes: lanes(target) };
    return [
      {
        kernel: packNormsBlockKernel(variant),
        bindings: { flat: input(0), blocks: input(1), sums: scratch(0) },
        params: { count },
        workgroups: grid(count, 1),
      },
      {
        kernel: packNormsTensorKernel(variant),
        bindings: { sums: scratch(0), first: input(2), squares: output(0) },
        params: { count: tensors },
        workgroups: grid(tensors, 1),
      },
    ];
  },
  cost: ([flat]) => ({ flops: 2 * elements(flat), bytes: 4 * elements(flat) }),
});
