// stale_neighbours: which of the drawn rows of a memory have a list of neighbours that is too short, each once, ascending.
//
//   drawn       [n]          u32, rows of the memory; one dispatch of `mark` for each such list
//   length      [N]          u32, entries of each row's list
//   slot        [N]          u32, place of a stale row among `rows`; NO_ROW for all others
//   rows        [C]          u32, the stale rows; NO_ROW after the last
//   total       [1]          u32, how many there are
//   workgroups  [chunks, 3]  u32, of the searches (neighbours.wgsl.ts) for `chunk` of them each
//
// clear, mark   a row an invocation: `slot` is 0 for stale rows
// compact       one workgroup: each invocation counts the stale rows of a range, then numbers them after those before it

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { NO_ROW } from './lib/no-row.js';

export function staleNeighboursClearKernel(): Kernel {
  return kernel({
    label: 'stale_neighbours.clear',
    bindings: { slot: write('u32') },
    params: { count: 'u32' },
    code: each('clear', `slot[i] = ${NO_ROW}u;`),
  });
}

/** Atomic, because several tasks may draw the same row. */
export function staleNeighboursMarkKernel(): Kernel {
  return kernel({
    label: 'stale_neighbours.mark',
    bindings: { drawn: read('u32'), length: read('u32'), slot: write('atomic<u32>') },
    params: { count: 'u32', rows: 'u32', k: 'u32' },
    code: each(
      'mark',
      `
  let row = drawn[i];
  if (row < params.rows && length[row] < params.k) { atomicStore(&slot[row], 0u); }`,
    ),
  });
}

export function staleNeighboursCompactKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'stale_neighbours.compact',
    bindings: { slot: write('u32'), rows: write('u32'), total: write('u32'), workgroups: write('u32') },
    params: { size: 'u32', capacity: 'u32', chunks: 'u32', chunk: 'u32', tile: 'u32', ranges: 'u32' },
    code: wgsl`
var<workgroup> counts: array<u32, ${lanes}>;
@compute @workgroup_size(${lanes})
fn compact(@builtin(local_invocation_index) local: u32) {
  let share = (params.size + ${lanes - 1}u) / ${lanes}u;
  let end = min(params.size, (local + 1u) * share);
  var count = 0u;
  for (var row = local * share; row < end; row++) { count += select(0u, 1u, slot[row] != ${NO_ROW}u); }
  counts[local] = count;
  workgroupBarrier();
  var place = 0u;
  var stale = 0u;
  for (var other = 0u; other < ${lanes}u; other++) {
    place += select(0u, counts[other], other < local);
    stale += counts[other];
  }
  for (var row = local * share; row < end; row++) {
    if (slot[row] != ${NO_ROW}u) {
      slot[row] = place;
      rows[place] = row;
      place += 1u;
    }
  }
  for (var i = stale + local; i < params.capacity; i += ${lanes}u) { rows[i] = ${NO_ROW}u; }
  for (var chunk = local; chunk < params.chunks; chunk += ${lanes}u) {
    let first = chunk * params.chunk;
    let left = min(params.chunk, max(stale, first) - first);
    workgroups[3u * chunk] = (left + params.tile - 1u) / params.tile * params.ranges;
    workgroups[3u * chunk + 1u] = 1u;
    workgroups[3u * chunk + 2u] = 1u;
  }
  if (local == 0u) { total[0] = stale; }
}
`,
  });
}
