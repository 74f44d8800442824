import { eachGrid } from '../../shaders/lib/each.js';
import { listedNeighboursForwardKernel } from '../../shaders/listed_neighbours.wgsl.js';
import { defineOp, input, misfit, output } from '../graph/op.js';
import { elements, f32, moved, sameShape, u32 } from '../graph/tensor.js';

export type ListedNeighboursAttributes = { readonly k: number };

/**
 * What `neighbours` would find, taken from lists: of each anchor the first k entries of its fresh list, if it has one, else of
 * the one that is kept.
 *
 * Inputs: anchors u32 [K]; slot u32 [N], index u32 [C, m], score f32 [C, m] as `stale_neighbours` returns them for draws that
 * hold these anchors; kept lists index u32 [N, m], score f32 [N, m]. Outputs: index u32 [K, k], score f32 [K, k]. No derivative.
 */
export const listedNeighbours = defineOp<ListedNeighboursAttributes>({
  name: 'listed_neighbours',
  words: (i) => i !== 3 && i !== 5,
  infer([anchors, slot, freshIndex, freshScore, index, score], { k }) {
    const [count = 0] = anchors?.shape ?? [];
    const [rows = 0, capacity = 0] = index?.shape ?? [];
    const fits =
      slot?.shape[0] === rows &&
      freshIndex?.shape[1] === capacity &&
      sameShape(freshIndex.shape, freshScore?.shape) &&
      sameShape(index?.shape, score?.shape);
    if (anchors?.shape.length !== 1 || !fits || !(k >= 1 && k <= capacity)) {
      const given = { anchors, slot, freshIndex, freshScore, index, score };
      throw misfit('listed_neighbours', given, `[K], [N], twice [C, m], twice [N, m] with m >= ${k} >= 1`);
    }
    return [u32(count, k), f32(count, k)];
  },
  launches({ inputs: [anchors, , fresh, , lists], attrs: { k } }) {
    const count = k * elements(anchors);
    return [
      {
        kernel: listedNeighboursForwardKernel(),
        bindings: {
          anchors: input(0),
          slot: input(1),
          fresh_index: input(2),
          fresh_score: input(3),
          list_index: input(4),
          list_score: input(5),
          index: output(0),
          score: output(1),
        },
        params: { count, k, capacity: lists?.shape[1] ?? 1, fresh_rows: fresh?.shape[0] ?? 1 },
        workgroups: eachGrid(count),
      },
    ];
  },
  cost: (_inputs, outputs) => ({ bytes: 2 * moved(...outputs) }),
});
