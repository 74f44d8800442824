import { grid } from '../../shaders/lib/grid.js';
import {
  ADAMW_SPAN,
  updateAdamwCorrectKernel,
  updateAdamwStepKernel,
  updateAdamwTotalKernel,
} from '../../shaders/update_adamw.wgsl.js';
import { PACK_ALIGNMENT } from '../graph/graph.js';
import { type Attributes, defineOp, input, type Launch, misfit, output, type Scalar, scratch } from '../graph/op.js';
import { elements, f32, type Spec, u32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';

/**
 * Numbers of the step are scalars: learning rate, weight decay, 1 - beta1^t, 1 - beta2^t; `step` is t itself, for those that
 * give `counts`. `clip` 0: no clipping.
 */
export type UpdateAdamwAttributes = Attributes & {
  readonly lr: Scalar;
  readonly weightDecay: Scalar;
  readonly correction1: Scalar;
  readonly correction2: Scalar;
  readonly step?: Scalar;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly clip: number;
};

export { DECAYS } from '../../shaders/update_adamw.wgsl.js';

const spans = (flat: Spec | undefined): number => Math.ceil(elements(flat) / ADAMW_SPAN);

/**
 * Clips each gradient tensor by its own norm, then AdamW, unless the flag is up.
 * Inputs: flag u32 [1], parameters, gradients, moment1, moment2 [n] each, squares [T] (`pack_norms`), table u32 [n / 64]:
 * tensor of each 64 elements, `DECAYS` added where it is decayed; optionally counts u32 [2], whose second number are steps
 * before this one that were skipped (`update_loss_scale`): they are none in t, as for PyTorch's GradScaler.
 * Changes parameters and both moments. Output: norms [2], sums of squares of the parameters after it and of the update
 * (decay included). The rest of a tensor's last 64 elements is treated as part of it: zero stays zero.
 */
export const updateAdamw = defineOp<UpdateAdamwAttributes>({
  name: 'update_adamw',
  words: (i) => i === 0 || i > 5,
  updates: [1, 3, 4],
  infer([flag, parameters, gradients, moment1, moment2, , table, counts], { step }) {
    const n = elements(parameters);
    const flats = [parameters, gradients, moment1, moment2];
    const fits = flats.every((flat) => flat?.shape.length === 1 && elements(flat) === n) && n % PACK_ALIGNMENT === 0;
    if (!fits || elements(table) !== n / PACK_ALIGNMENT) {
      const given = { flag, parameters, gradients, moment1, moment2, table };
      throw misfit('update_adamw', given, `[1], four of [${PACK_ALIGNMENT} m], [m]`);
    }
    if ((counts === undefined) !== (step === undefined) || (counts && elements(counts) !== 2))
      throw misfit('update_adamw', { counts }, '[2], with the scalar of the step');
    return [f32(2)];
  },
  scratch: ({ inputs: [, parameters], attrs: { step } }) => [f32(spans(parameters), 2), ...(step ? [u32(3)] : [])],
  launches({ inputs: [, parameters], attrs, target }) {
    const count = spans(parameters);
    const variant = { lanes: lanes(target) };
    const { lr, weightDecay, correction1, correction2, step, beta1, beta2, eps, clip } = attrs;
    const gate = (slot: number): Launch => ({
      kernel: updateAdamwCorrectKernel(),
      bindings: { flag: input(0), counts: input(7), gate: scratch(1) },
      params: { log_beta1: Math.log(beta1), log_beta2: Math.log(beta2), step_slot: slot },
      workgroups: [1, 1, 1],
    });
    return [
      ...(step ? [gate(step.slot)] : []),
      {
        kernel: updateAdamwStepKernel({ ...variant, skips: step !== undefined }),
        bindings: {
          flag: step ? scratch(1) : input(0),
          parameters: input(1),
          gradients: input(2),
          moment1: input(3),
          moment2: input(4),
          squares: input(5),
          table: input(6),
          sums: scratch(0),
        },
        params: {
          blocks: elements(parameters) / PACK_ALIGNMENT,
          spans: count,
          beta1,
          beta2,
          // In f32, 1 - 0.999 is off by 5e-5.
          rest1: 1 - beta1,
          rest2: 1 - beta2,
          eps,
          clip,
          lr_slot: lr.slot,
          decay_slot: weightDecay.slot,
          correction1_slot: correction1.slot,
          correction2_slot: correction2.slot,
        },
        workgroups: grid(count, 1),
      },
      {
        kernel: updateAdamwTotalKernel(variant),
        bindings: { sums: scratch(0), norms: output(0) },
        params: { count },
        workgroups: [1, 1, 1],
      },
    ];
  },
  cost([, parameters]) {
    const n = elements(parameters);
    return { flops: 20 * n, bytes: 28 * n };
  },
});
