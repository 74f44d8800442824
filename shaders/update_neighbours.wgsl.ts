// update_neighbours: keeps neighbour lists true while a FIFO memory changes. List i is the exact top of the memory without
// row i under the order (score down, row up), as far as it reaches.
//
//   flag                 [1]     u32; not 0: nothing is written
//   pointer              [1]     u32: row that the FIFO replaces next; the `fresh` rows before it have just been replaced
//   index, score, length [N, m], [N, m], [N]   the lists, changed; entries from `length` on are row 0 with LEFT_OUT
//   rows                 [C]     u32: rows that get a whole new list; NO_ROW: none
//   fresh_index, fresh_score     [C, m]
//   bound_index, bound_score     [N]   last entry of each list before rows were replaced: up to it the list is complete
//   similarity           [c, N]  scores of c new rows with all rows
//
// fill      an entry an invocation: list rows[j] = fresh list j
// replaced  a row an invocation: the rows that were replaced, in the order of the FIFO
// remove    a row an invocation: notes the bound, takes the replaced rows out of the list; those rows' own lists are emptied
// insert    a row an invocation: puts each new row that comes before the bound in its place. One that comes after must not
//           be appended, not even where there is room: rows that nobody compared may come before it. Of a list that is full
//           the last entry is the bound.

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { LEFT_OUT } from './neighbours.wgsl.js';

/** `age(row)`: 0 for the first row that was replaced, 1 for the next; below `params.fresh` for new rows alone. */
const AGE = wgsl`
fn start() -> u32 { return (pointer[0] + params.size - params.fresh) % params.size; }
fn age(row: u32, first: u32) -> u32 { return select(row + params.size - first, row - first, row >= first); }
`;

/** `precedes(s, r, t, q)`: whether score s of row r comes before score t of row q. */
const PRECEDES = wgsl`
fn precedes(s: f32, r: u32, t: f32, q: u32) -> bool { return s > t || (s == t && r < q); }
`;

export function updateNeighboursFillKernel(): Kernel {
  return kernel({
    label: 'update_neighbours.fill',
    bindings: {
      flag: read('u32'),
      rows: read('u32'),
      fresh_index: read('u32'),
      fresh_score: read('f32'),
      index: write('u32'),
      score: write('f32'),
      length: write('u32'),
    },
    params: { count: 'u32', capacity: 'u32', size: 'u32' },
    code: each(
      'fill',
      `
  let row = rows[i / params.capacity];
  let entry = i % params.capacity;
  if (flag[0] == 0u && row < params.size) {
    index[row * params.capacity + entry] = fresh_index[i];
    score[row * params.capacity + entry] = fresh_score[i];
    if (entry == 0u) { length[row] = min(params.capacity, params.size - 1u); }
  }`,
    ),
  });
}

export function updateNeighboursReplacedKernel(): Kernel {
  return kernel({
    label: 'update_neighbours.replaced',
    bindings: { pointer: read('u32'), rows: write('u32') },
    params: { count: 'u32', size: 'u32', fresh: 'u32' },
    code: AGE + each('replaced', 'rows[i] = (start() + i) % params.size;'),
  });
}

export function updateNeighboursRemoveKernel(): Kernel {
  return kernel({
    label: 'update_neighbours.remove',
    bindings: {
      flag: read('u32'),
      pointer: read('u32'),
      index: write('u32'),
      score: write('f32'),
      length: write('u32'),
      bound_index: write('u32'),
      bound_score: write('f32'),
    },
    params: { count: 'u32', capacity: 'u32', size: 'u32', fresh: 'u32' },
    code:
      AGE +
      each(
        'remove',
        wgsl`
  if (flag[0] != 0u) { return; }
  let first = start();
  let at = i * params.capacity;
  let entries = length[i];
  // Nothing comes before the bound of an empty list.
  let last = at + max(entries, 1u) - 1u;
  bound_index[i] = select(0u, index[last], entries > 0u);
  bound_score[i] = select(${-LEFT_OUT}, score[last], entries > 0u);
  let replaced = age(i, first) < params.fresh;
  var gone = select(0u, entries, replaced);
  for (var j = 0u; j < entries; j++) { gone += select(0u, 1u, age(index[at + j], first) < params.fresh); }
  // A loop and not an if, which software adapters would always execute; few lists lose an entry.
  while (gone > 0u) {
    var kept = 0u;
    for (var j = 0u; j < entries; j++) {
      let row = index[at + j];
      let s = score[at + j];
      if (!replaced && age(row, first) >= params.fresh) {
        index[at + kept] = row;
        score[at + kept] = s;
        kept += 1u;
      }
    }
    for (var j = kept; j < entries; j++) {
      index[at + j] = 0u;
      score[at + j] = ${LEFT_OUT};
    }
    length[i] = kept;
    gone = 0u;
  }`,
      ),
  });
}

/** Over `count` rows of the memory, for `inserted` new rows of which the first is number `first_inserted`. */
export function updateNeighboursInsertKernel(): Kernel {
  return kernel({
    label: 'update_neighbours.insert',
    bindings: {
      flag: read('u32'),
      pointer: read('u32'),
      similarity: read('f32'),
      bound_index: read('u32'),
      bound_score: read('f32'),
      index: write('u32'),
      score: write('f32'),
      length: write('u32'),
    },
    params: {
      count: 'u32',
      capacity: 'u32',
      size: 'u32',
      fresh: 'u32',
      first_inserted: 'u32',
      inserted: 'u32',
    },
    code:
      AGE +
      PRECEDES +
      each(
        'insert',
        wgsl`
  let first = start();
  // New rows have whole lists of their own.
  if (flag[0] != 0u || age(i, first) < params.fresh) { return; }
  let at = i * params.capacity;
  let end = at + params.capacity;
  var entries = length[i];
  let full = entries == params.capacity;
  var bound = select(bound_index[i], index[end - 1u], full);
  var bound_s = select(bound_score[i], score[end - 1u], full);
  for (var b = 0u; b < params.inserted; b++) {
    let s = similarity[b * params.size + i];
    let row = (first + params.first_inserted + b) % params.size;
    var comes = precedes(s, row, bound_s, bound);
    while (comes) {
      var place = at + min(entries, params.capacity - 1u);
      while (place > at && precedes(s, row, score[place - 1u], index[place - 1u])) {
        score[place] = score[place - 1u];
        index[place] = index[place - 1u];
        place -= 1u;
      }
      score[place] = s;
      index[place] = row;
      entries = min(entries + 1u, params.capacity);
      if (entries == params.capacity) {
        bound = index[end - 1u];
        bound_s = score[end - 1u];
      }
      length[i] = entries;
      comes = false;
    }
  }`,
      ),
  });
}
