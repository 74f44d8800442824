// listed_neighbours: the first k entries of the neighbour lists of some rows.
//
//   anchors       [K]       u32, rows of the memory
//   slot          [N]       u32, place of a row's list among the fresh ones; NO_ROW: its kept list counts
//   fresh_index, fresh_score  [C, m]   lists that were searched in this step
//   list_index, list_score    [N, m]   lists that are kept from step to step
//   index, score  [K, k]
//
// An entry an invocation.

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

export function listedNeighboursForwardKernel(): Kernel {
  return kernel({
    label: 'listed_neighbours.forward',
    bindings: {
      anchors: read('u32'),
      slot: read('u32'),
      fresh_index: read('u32'),
      fresh_score: read('f32'),
      list_index: read('u32'),
      list_score: read('f32'),
      index: write('u32'),
      score: write('f32'),
    },
    params: { count: 'u32', k: 'u32', capacity: 'u32', fresh_rows: 'u32' },
    code: each(
      'forward',
      `
  let row = anchors[i / params.k];
  let place = slot[row];
  let fresh = place < params.fresh_rows;
  let kept_at = row * params.capacity + i % params.k;
  let fresh_at = min(place, params.fresh_rows - 1u) * params.capacity + i % params.k;
  index[i] = select(list_index[kept_at], fresh_index[fresh_at], fresh);
  score[i] = select(list_score[kept_at], fresh_score[fresh_at], fresh);`,
    ),
  });
}
