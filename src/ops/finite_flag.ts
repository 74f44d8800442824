import { FLAG_SPAN, finiteFlagFirst, finiteFlagSpan } from '../../shaders/finite_flag.wgsl.js';
import { grid } from '../../shaders/lib/grid.js';
import { defineOp, GraphError, input, type Launch, output, scratch } from '../graph/op.js';
import { elements, type Spec, u32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';

const spans = ({ shape }: Spec): number => Math.ceil(elements(shape) / FLAG_SPAN);
const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/**
 * Whether a step may change anything: 0 if all elements of the inputs are finite, else 1 + the number of the first that is
 * not, counted through all inputs in order. Inputs: f32 tensors, each scanned by a launch of its own. Output: flag
 * u32 [1]. Gates the `update_*` ops.
 */
export const finiteFlag = defineOp<Record<string, never>>({
  name: 'finite_flag',
  infer(inputs) {
    if (inputs.length < 1 || inputs.some(({ dtype }) => dtype !== 'f32')) {
      throw new GraphError(
        'finite_flag',
        `${inputs.length} inputs (${inputs.map(({ dtype }) => dtype)}), not one or more of f32`,
      );
    }
    return [u32(1)];
  },
  scratch: ({ inputs }) => [u32(total(inputs.map(spans)))],
  launches({ inputs, target }) {
    const variant = { lanes: lanes(target) };
    const scans = inputs.map((spec, i): Launch => {
      const before = inputs.slice(0, i);
      return {
        kernel: finiteFlagSpan(variant),
        bindings: { x: input(i), found: scratch(0) },
        params: {
          count: elements(spec.shape),
          spans: spans(spec),
          first_element: total(before.map(({ shape }) => elements(shape))),
          first_span: total(before.map(spans)),
        },
        workgroups: grid(spans(spec), 1),
      };
    });
    const count = total(inputs.map(spans));
    const bindings = { found: scratch(0), flag: output(0) };
    return [...scans, { kernel: finiteFlagFirst(variant), bindings, params: { count }, workgroups: [1, 1, 1] }];
  },
  cost: (inputs) => ({ flops: 0, bytes: 4 * total(inputs.map(({ shape }) => elements(shape))) }),
});
