import { grid } from '../../shaders/lib/grid.js';
import { SUPPORT_WORKGROUP, support as supportKernel } from '../../shaders/support.wgsl.js';
import { defineOp, GraphError, input, output } from '../graph/op.js';
import { elements, f32, sameShape, showShape } from '../graph/tensor.js';

export type SupportAttributes = {
  readonly contributions: 'soft' | 'one-hot';
  /** An anchor gives 1 - smoothing to its own prototype. */
  readonly smoothing: number;
};

/**
 * Support embeddings and contributions (method.md section 3, steps 3 and 4).
 * Inputs: memory [N, d], anchors u32 [K], and for k > 0 the neighbours: index u32 [K, k], score [K, k].
 * Outputs: D [K (k + 1), d], each anchor followed by its neighbours; s [K (k + 1)]. No derivative: memories get none.
 */
export const support = defineOp<SupportAttributes>({
  name: 'support',
  infer([memory, anchors, index, score]) {
    const [, width = 0] = memory?.shape ?? [];
    const [count = 0] = anchors?.shape ?? [];
    const k = index?.shape[1] ?? 0;
    const fits =
      anchors?.dtype === 'u32' &&
      (!index ||
        (index.dtype === 'u32' && sameShape(index.shape, [count, k]) && sameShape(score?.shape ?? [], [count, k])));
    if (!fits) {
      const shapes = [memory, anchors, index, score].map((spec) => showShape(spec?.shape ?? [])).join(' ');
      throw new GraphError('support', `memory, anchors, neighbours and scores ${shapes} do not fit`);
    }
    return [f32(count * (k + 1), width), f32(count * (k + 1))];
  },
  launches({ inputs: [, anchors, index], outputs: [rows], attrs: { contributions, smoothing } }) {
    const count = elements(rows?.shape ?? []);
    const neighbours = index !== undefined;
    return [
      {
        kernel: supportKernel({ neighbours, soft: contributions === 'soft' }),
        bindings: {
          memory: input(0),
          anchors: input(1),
          ...(neighbours && { index: input(2), score: input(3) }),
          rows: output(0),
          contributions: output(1),
        },
        params: {
          count,
          width: rows?.shape[1] ?? 1,
          members: 1 + (index?.shape[1] ?? 0),
          own: 1 - smoothing,
          least: 1 / (anchors?.shape[0] ?? 1),
        },
        workgroups: grid(count, SUPPORT_WORKGROUP),
      },
    ];
  },
  cost: (_inputs, [rows]) => ({ flops: 0, bytes: 8 * elements(rows?.shape ?? []) }),
});
