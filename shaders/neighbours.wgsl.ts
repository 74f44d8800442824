// neighbours: for each anchor the k rows of the memory with the highest dot product, itself left out, ties to the lower row.
//
//   memory         [rows, width]
//   anchors        [anchors] u32            rows of the memory
//   marks          [rows] u32               scratch: 1 for rows that are anchors, where those are not searched
//   total          [1] u32                  number of anchors, where only the device knows it
//   similarity     [anchors, rows]          every score, where somebody else needs them
//   index, score   [anchors, ranges, k]     of each range of rows: lists sorted by (score down, row up)
//   best_index, best_score [anchors, k]     the same of all rows
//
// clear, mark   write `marks`
// search        a workgroup streams one range of rows past a tile of anchors: anchors on lanes (lib/row-tile), a block of
//               rows at a time; each invocation keeps its anchors' lists in registers, so that no similarity has to be stored
// merge         one list of those of all ranges, an invocation an anchor; may be left out where there is one range
//
// Both work on anchors `first_anchor` ... first_anchor + anchors - 1 of the list. Where the device knows how many there are,
// merge gives those beyond them empty lists: row 0 with the score of what is left out.
//
// A score is one sum over the width in ascending order, of products that commute: its bits depend on the unordered pair of
// rows only, so equal rows tie exactly and a pair scores the same from both ends.

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { GRID } from './lib/grid.js';
import { kernel, read, times, wgsl, write } from './lib/kernel.js';
import { type RowTile, rowTile, rowTileDeclaration, rowTileElement, tileRows } from './lib/row-tile.js';

/** Score of rows that are left out: lower than any finite dot product of rows of unit norm. */
export const LEFT_OUT = -3e38;

/** A list sorted by falling score in named scalars, so that it stays in registers. */
function sortedList(k: number, name: string) {
  const score = (j: number): string => `${name}_score${j}`;
  const row = (j: number): string => `${name}_row${j}`;
  return {
    declaration: times(k, (j) => `var ${score(j)} = ${LEFT_OUT}; var ${row(j)} = 0u;`),
    lowest: score(k - 1),
    score,
    row,
    /** Puts (s, i) behind all scores that are not lower: of equal scores the one inserted first stays first. */
    insert: (s: string, i: string): string =>
      times(k, (up) => {
        const j = k - 1 - up;
        const [here, moved] = [`${s} > ${score(j)}`, `${s} > ${score(j - 1)}`];
        const place = (to: (j: number) => string, value: string): string => {
          const kept = `select(${to(j)}, ${value}, ${here})`;
          return j === 0 ? kept : `select(${kept}, ${to(j - 1)}, ${moved})`;
        };
        return `${row(j)} = ${place(row, i)}; ${score(j)} = ${place(score, s)};`;
      }),
  };
}

export function neighboursClearKernel(): Kernel {
  return kernel({
    label: 'neighbours.clear',
    bindings: { marks: write('u32') },
    params: { count: 'u32' },
    code: each('clear', 'marks[i] = 0u;'),
  });
}

export function neighboursMarkKernel(): Kernel {
  return kernel({
    label: 'neighbours.mark',
    bindings: { anchors: read('u32'), marks: write('u32') },
    params: { count: 'u32', rows: 'u32' },
    code: each('mark', 'if (anchors[i] < params.rows) { marks[anchors[i]] = 1u; }'),
  });
}

interface SearchVariant {
  readonly tile: RowTile;
  readonly k: number;
  /** Whether marked rows are left out. */
  readonly marked: boolean;
  /** Whether `total` says how many anchors there are. */
  readonly counted: boolean;
  /** Whether every score is stored. */
  readonly stored: boolean;
}

/** Anchors of a launch, of which the list may hold fewer. */
const anchorsHere = (counted: boolean): string =>
  counted ? 'min(params.anchors, max(total[0], params.first_anchor) - params.first_anchor)' : 'params.anchors';

/** Over ceil(anchors / rows of the tile) x ranges workgroups, in one dispatch or several; `span` divides by the tile's columns. */
export function neighboursSearchKernel(variant: SearchVariant): Kernel {
  const { tile, k, marked, counted, stored } = variant;
  const { lanes, subgroup, rows, columns } = tile;
  const anchorOf = (r: string): string => `anchors[params.first_anchor + min(top + ${r}, anchor_count - 1u)]`;
  const lists = Array.from({ length: rows }, (_, r) => sortedList(k, `best${r}`));
  const acc = (r: number, x: number): string => `acc[${r * columns + x}]`;
  const highest = (r: number): string =>
    Array.from({ length: columns }, (_, x) => acc(r, x)).reduce((max, value) => `max(${max}, ${value})`);
  return kernel({
    label: 'neighbours.search',
    enable: subgroup ? ['subgroups'] : [],
    bindings: {
      memory: read(rowTileElement(tile)),
      anchors: read('u32'),
      ...(marked && { marks: read('u32') }),
      ...(counted && { total: read('u32') }),
      ...(stored && { similarity: write('f32') }),
      index: write('u32'),
      score: write('f32'),
    },
    params: {
      rows: 'u32',
      width: 'u32',
      columns: 'u32',
      anchors: 'u32',
      first_anchor: 'u32',
      ranges: 'u32',
      span: 'u32',
      first_group: 'u32',
      end_group: 'u32',
      entries: 'u32',
    },
    code: wgsl`${GRID}${rowTileDeclaration(tile)}
#if ${!subgroup}
var<workgroup> own: array<u32, ${tileRows(tile)}>;
#endif
@compute @workgroup_size(${lanes})
fn search(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
  let anchor_count = ${anchorsHere(counted)};
  let anchor_tiles = (anchor_count + ${tileRows(tile) - 1}u) / ${tileRows(tile)}u;
  let group = params.first_group + flat_group(workgroup, groups);
  if (group >= min(params.end_group, anchor_tiles * params.ranges)) { return; }
  // Workgroups of the same range run at about the same time: they share its rows in the cache.
  let top = group % anchor_tiles * ${tileRows(tile)}u;
  let range = group / anchor_tiles;
  let end = min(params.rows, (range + 1u) * params.span);
${times(rows, (r) => `  let own${r} = ${anchorOf(`(local + ${r * lanes}u)`)};`)}
#if ${!subgroup}
${times(rows, (r) => `  own[local + ${r * lanes}u] = own${r};`)}
  workgroupBarrier();
#endif
${times(rows, (r) => lists[r]?.declaration ?? '')}
  for (var first = range * params.span; first < end; first += ${columns}u) {
${rowTile(tile, {
  a: 'memory',
  b: 'memory',
  aStart: (r) => `${subgroup ? anchorOf(r) : `own[${r}]`} * params.width`,
  bStart: (x) => `min(first + ${x}, params.rows - 1u) * params.width`,
  length: 'params.width',
})}
#if ${stored}
${times(
  rows,
  (r) => wgsl`
    if (top + local + ${r * lanes}u < anchor_count) {
      let at = (top + local + ${r * lanes}u) * params.rows + first;
      for (var x = 0u; x < min(params.columns, end - first); x++) { similarity[at + x] = acc[${r * columns}u + x]; }
    }`,
)}
#endif
${times(
  rows,
  (r) => wgsl`
    // Loops, not ifs: software adapters execute the body of an if always, that of a loop only while a lane needs it.
    var high${r} = ${highest(r)};
    while (high${r} > ${lists[r]?.lowest}) {
      for (var x = 0u; x < params.columns; x++) {
        let row = first + x;
        let left_out = row >= end || row == own${r}${marked ? ' || marks[min(row, end - 1u)] != 0u' : ''};
        var s = select(acc[${r * columns}u + x], ${LEFT_OUT}, left_out);
        while (s > ${lists[r]?.lowest}) {
${lists[r]?.insert('s', 'row')}
          s = ${LEFT_OUT};
        }
      }
      high${r} = ${LEFT_OUT};
    }`,
)}
  }
  // Through arrays, because software adapters take long to compile a store: one in a loop instead of one for each entry.
  var rows_found: array<u32, ${rows * k}>;
  var scores_found: array<f32, ${rows * k}>;
${times(rows, (r) =>
  times(k, (j) => {
    const at = r * k + j;
    return `  rows_found[${at}] = ${lists[r]?.row(j)}; scores_found[${at}] = ${lists[r]?.score(j)};`;
  }),
)}
  for (var i = 0u; i < params.entries; i++) {
    let anchor = top + local + i / ${k}u * ${lanes}u;
    if (anchor < anchor_count) {
      let at = (anchor * params.ranges + range) * ${k}u + i % ${k}u;
      index[at] = rows_found[i];
      score[at] = scores_found[i];
    }
  }
}
`,
  });
}

/** Over `count` = `anchors` anchors; `entries` = ranges * k. Ranges ascend, so of equal scores the lower row comes first. */
export function neighboursMergeKernel({ k, counted }: Pick<SearchVariant, 'k' | 'counted'>): Kernel {
  const list = sortedList(k, 'best');
  return kernel({
    label: 'neighbours.merge',
    bindings: {
      index: read('u32'),
      score: read('f32'),
      ...(counted && { total: read('u32') }),
      best_index: write('u32'),
      best_score: write('f32'),
    },
    params: { count: 'u32', anchors: 'u32', first_anchor: 'u32', entries: 'u32', k: 'u32' },
    code: each(
      'merge',
      wgsl`
${list.declaration}
  let end = select(i, i + 1u, i < ${anchorsHere(counted)}) * params.entries;
  for (var e = i * params.entries; e < end; e++) {
    let s = score[e];
    let row = index[e];
${list.insert('s', 'row')}
  }
  var rows_found: array<u32, ${k}>;
  var scores_found: array<f32, ${k}>;
${times(k, (j) => `  rows_found[${j}] = ${list.row(j)}; scores_found[${j}] = ${list.score(j)};`)}
  for (var j = 0u; j < params.k; j++) {
    let at = (params.first_anchor + i) * ${k}u + j;
    best_index[at] = rows_found[j];
    best_score[at] = scores_found[j];
  }`,
    ),
  });
}
