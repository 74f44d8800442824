import { grid } from '../../shaders/lib/grid.js';
import { FLAG_SPAN, updateFlagFirstKernel, updateFlagSpanKernel } from '../../shaders/update_flag.wgsl.js';
import { defineOp, GraphError, input, type Launch, type NoAttributes, scratch } from '../graph/op.js';
import { elements, type Spec, u32 } from '../graph/tensor.js';
import { lanes } from './lanes.js';

const spans = (spec: Spec): number => Math.ceil(elements(spec) / FLAG_SPAN);
const total = (counts: readonly number[]): number => counts.reduce((sum, count) => sum + count, 0);

/**
 * Whether a step may change anything. Inputs: flag u32 [1] (changed), then f32 tensors, each scanned by a launch of its
 * own. A flag of 0 stays 0 if all their elements are finite, else becomes 1 + the number of the first that is not, counted
 * through all of them in order; any other flag stays, so that steps in flight behind a bad one change nothing either.
 * Gates the `update_*` ops. No outputs.
 */
export const updateFlag = defineOp<NoAttributes>({
  name: 'update_flag',
  words: (i) => i === 0,
  updates: [0],
  infer([flag, ...scanned]) {
    if (!flag || scanned.length < 1) throw new GraphError('update_flag', 'needs a flag and one or more to scan');
    return [];
  },
  scratch: ({ inputs: [, ...scanned] }) => [u32(total(scanned.map(spans)))],
  launches({ inputs: [, ...scanned], target }) {
    const variant = { lanes: lanes(target) };
    const scans = scanned.map((spec, i): Launch => {
      const before = scanned.slice(0, i);
      return {
        kernel: updateFlagSpanKernel(variant),
        bindings: { x: input(1 + i), found: scratch(0) },
        params: {
          count: elements(spec),
          spans: spans(spec),
          first_element: total(before.map(elements)),
          first_span: total(before.map(spans)),
        },
        workgroups: grid(spans(spec), 1),
      };
    });
    const count = total(scanned.map(spans));
    const bindings = { found: scratch(0), flag: input(0) };
    return [...scans, { kernel: updateFlagFirstKernel(variant), bindings, params: { count }, workgroups: [1, 1, 1] }];
  },
});
