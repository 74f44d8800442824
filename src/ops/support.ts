import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { supportForwardKernel } from '../../shaders/support.wgsl.js';
import { defineOp, input, misfit, output } from '../graph/op.js';
import { elements, f32, sameShape } from '../graph/tensor.js';

/** `contributions`: a neighbour gives its cosine to its own SOP (`soft`) or 1 - smoothing, as the anchor (`one-hot`). */
export type SupportAttributes = { readonly contributions: 'soft' | 'one-hot'; readonly smoothing: number };

/**
 * Support embeddings of K SOPs, and the share s_j of each that goes to its own SOP: D and Y of the paper's Section 2.2.1.
 *
 * Inputs: memory [N, d], anchors u32 [K] and, unless SOPs are anchors alone, index u32 [K, k] and (`soft`) score [K, k] as
 * `neighbours` returns them. Outputs: D [K (k + 1), d], each anchor followed by its neighbours; s [K (k + 1)] in [1 / K, 1].
 * No derivative: memories get no gradient.
 * @throws GraphError when shapes disagree
 */
export const support = defineOp<SupportAttributes>({
  name: 'support',
  words: (i) => i === 1 || i === 2,
  infer([memory, anchors, index, score], { contributions }) {
    const [count = 0] = anchors?.shape ?? [];
    const [, depth = 0] = memory?.shape ?? [];
    const members = 1 + (index?.shape[1] ?? 0);
    const scored = contributions === 'one-hot' || sameShape(index?.shape, score?.shape);
    const found = !index || (index.shape[0] === count && scored);
    if (memory?.shape.length !== 2 || anchors?.shape.length !== 1 || !found)
      throw misfit('support', { memory, anchors, index, score }, '[N, d], [K] and either none or twice [K, k]');
    return [f32(count * members, depth), f32(count * members)];
  },
  launches({ inputs: [memory, anchors, index], outputs: [d], attrs: { contributions, smoothing } }) {
    const { vec4, width } = byFour(memory?.shape[1] ?? 1);
    const [neighbours, soft] = [index !== undefined, contributions === 'soft'];
    const count = (d?.shape[0] ?? 1) * width;
    return [
      {
        kernel: supportForwardKernel({ vec4, soft, neighbours }),
        bindings: {
          memory: input(0),
          anchors: input(1),
          ...(neighbours ? { found: input(2) } : {}),
          ...(neighbours && soft ? { score: input(3) } : {}),
          support: output(0),
          s: output(1),
        },
        params: {
          count,
          width,
          members: 1 + (index?.shape[1] ?? 0),
          anchor_share: 1 - smoothing,
          least: 1 / (anchors?.shape[0] ?? 1),
        },
        workgroups: eachGrid(count),
      },
    ];
  },
  cost: (_inputs, [d]) => ({ bytes: 8 * elements(d) }),
});
