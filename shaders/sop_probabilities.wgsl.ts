// sop_probabilities: P = softmax(u D^T / tau) Y, Y given by one number s_j for each row of D (the paper's Section 2.2.1).
//
//   u, du         [R, depth]   embeddings
//   d             [J, depth]   D, support embeddings, SOP after SOP: SOP i owns rows i members ... (i + 1) members - 1
//   s             [J]          what row j gives to its own SOP; the others get r_j = (1 - s_j) / (K - 1) each
//   p, dp         [R, K]       P and its gradient
//   stats         [R] of (m, 1 / Z): largest logit and 1 / sum_j exp(l_j - m)
//   partial_sums  [R, tiles, 3] of a tile of SOPs: its largest logit m, z = sum exp(l - m), c = sum exp(l - m) r   (scratch)
//   w             [R, stride]  dL/dl_j / tau of a span of j   (scratch of backward, reused for every span)
//   sums          [R] of (a, b, G, 0): the mean of a row of dP in two parts, and the sum of what is left without it   (scratch)
//
// With p_j = exp(l_j - m) / Z:  P_i = sum_{j in SOP i} p_j (s_j - r_j) + sum_j p_j r_j. Logits are computed once:
// tiles         unnormalised sums over each SOP, relative to the largest logit of the tile, into p; partial_sums
// normalize     statistics of each row from its partial sums; brings p to the scale of the row and adds c
// backward: du = sum_j w_j D_j,  w_j = p_j ((s_j - r_j) g_i(j) + r_j G) / tau,  g_i = dP_i - sum_i dP_i P_i,  G = sum_i g_i; for
// one span of j at a time. This is p_j (dp_j - sum_j p_j dp_j) with dp = dP Y^T, since rows of Y sum to 1. Where student and
// teacher nearly agree, dP is nearly alike for all SOPs; where embeddings have much in common, so are rows of D: du is then a
// small difference. So the mean of dP goes first, and to more digits than it has itself: what its rounding a leaves of it is b.
// row_sums      a, b, G
// weights       logits of the span again, and from them w
// matmul and column_sum then make du of w and D: one term a span, or more
//
// Rows of u are on lanes (lib/row-tile), so a row's maximum, sums and SOPs need no exchange.

import type { Kernel } from '../src/graph/kernel.js';
import { kernel, read, times, wgsl, write } from './lib/kernel.js';
import { rowMax } from './lib/row-max.js';
import {
  eachTileColumn,
  eachTileRow,
  ROW_TILE_PARAMS,
  type RowTile,
  rowTile,
  rowTileDeclaration,
  rowTileElement,
  tileRows,
} from './lib/row-tile.js';
import { eachRow, type RowLayout, rowExtensions } from './lib/rows.js';
import { sharedValues } from './lib/shared-values.js';

/** Shape of the code: `columns` of the tile are whole SOPs of `members` rows of D. */
export interface SopVariant extends RowTile {
  readonly members: number;
}

/** SOPs of a tile. */
export const tileSops = ({ columns, members }: SopVariant): number => columns / members;

/** Lower than any logit, and small enough that differences stay finite. */
const LOWEST = '-1e30';

const PARAMS = {
  rows: 'u32',
  sops: 'u32',
  depth: 'u32',
  ...ROW_TILE_PARAMS,
  /** Tiles of rows, and of SOPs, in dispatches before this one. */
  first_tile: 'u32',
  first_sop_tile: 'u32',
  /** Tiles of SOPs before those that are numbered. */
  span_tile: 'u32',
  tile_sops: 'u32',
  /** 1 / (K - 1): r_j = (1 - s_j) others. */
  others: 'f32',
  temperature: 'u32',
} as const;

/** Logits of a tile, scaled, in `acc`; `s_<x>`, `r_<x>` of its columns; `count` of them are inside D. */
function logits(variant: SopVariant): { declaration: string; code: string } {
  const { columns, members } = variant;
  const contributions = sharedValues(
    variant,
    'contributions',
    'f32',
    columns,
    (x) => `s[min(column0 + ${x}, support - 1u)]`,
  );
  return {
    declaration: `${contributions.declaration}\n${rowTileDeclaration(variant)}`,
    code: `
  let support = params.sops * ${members}u;
  let row0 = (params.first_tile + workgroup.x) * ${tileRows(variant)}u;
  let tile = params.first_sop_tile + workgroup.y;
  let sop0 = (params.span_tile + tile) * ${tileSops(variant)}u;
  let column0 = sop0 * ${members}u;
  let count = support - column0;
  let inverse = 1.0 / scalar_f32(params.temperature);
  ${contributions.fill}
${times(columns, (x) => `  let s_${x} = ${contributions.at(x)}; let r_${x} = (1.0 - s_${x}) * params.others;`)}
${rowTile(variant, {
  a: 'u',
  b: 'd',
  aStart: (r) => `min(row0 + ${r}, params.rows - 1u) * params.depth`,
  bStart: (x) => `min(column0 + ${x}, support - 1u) * params.depth`,
  length: 'params.depth',
})}`,
  };
}

const ARGUMENTS = `(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32)`;

/** Workgroups (ceil(rows / tileRows), ceil(sops / tileSops)). */
export function sopProbabilitiesTilesKernel(variant: SopVariant): Kernel {
  const { columns, members, lanes, subgroup } = variant;
  const element = rowTileElement(variant);
  const { declaration, code } = logits(variant);
  const sops = tileSops(variant);
  return kernel({
    label: 'sop_probabilities.tiles',
    enable: subgroup ? ['subgroups'] : [],
    bindings: { u: read(element), d: read(element), s: read('f32'), p: write('f32'), partial_sums: write('f32') },
    params: { ...PARAMS, tiles: 'u32' },
    scalars: true,
    code: wgsl`${declaration}
@compute @workgroup_size(${lanes})
fn tiles${ARGUMENTS} {
${code}
${eachTileRow(
  variant,
  (r) => `
    let row = row0 + local + ${r} * ${lanes}u;
    let at = ${r} * ${columns}u;
${times(columns, (x) => `    let l${x} = select(${LOWEST}, acc[at + ${x}u] * inverse, ${x}u < count);`)}
    var m = l0;
${times(columns - 1, (x) => `    m = max(m, l${x + 1});`)}
    var z = 0.0;
    var c = 0.0;
    var own: array<f32, ${sops}>;
${times(
  sops,
  (i) => `    { var sum = 0.0;
${times(members, (e) => {
  const x = i * members + e;
  return `      { let e = exp(l${x} - m); z += e; c += e * r_${x}; sum += e * (s_${x} - r_${x}); }`;
})}
      own[${i}] = sum; }`,
)}
    if (row < params.rows) {
      let out = (row * params.tiles + tile) * 3u;
      partial_sums[out] = m;
      partial_sums[out + 1u] = z;
      partial_sums[out + 2u] = c;
      for (var i = 0u; i < min(params.tile_sops, params.sops - sop0); i++) { p[row * params.sops + sop0 + i] = own[i]; }
    }`,
)}
}
`,
  });
}

/** `tile_sops`: SOPs of a tile of D. */
export function sopProbabilitiesNormalizeKernel(layout: RowLayout): Kernel {
  return kernel({
    label: 'sop_probabilities.normalize',
    enable: rowExtensions(layout),
    bindings: { partial_sums: read('f32'), p: write('f32'), stats: write('vec2<f32>') },
    params: { rows: 'u32', sops: 'u32', tiles: 'u32', tile_sops: 'u32' },
    code: wgsl`${rowMax(layout)}${eachRow(
      layout,
      'normalize',
      `
  let first = row * params.tiles;
  var most = ${LOWEST};
  for (var t = lane; t < params.tiles; t += LANES) { most = max(most, partial_sums[3u * (first + t)]); }
  let m = row_max(most);
  var z = 0.0;
  var c = 0.0;
  for (var t = lane; t < params.tiles; t += LANES) {
    let at = 3u * (first + t);
    let scale = exp(partial_sums[at] - m);
    z += scale * partial_sums[at + 1u];
    c += scale * partial_sums[at + 2u];
  }
  let inverse = 1.0 / row_sum(z);
  let others = row_sum(c);
  for (var i = lane; i < params.sops; i += LANES) {
    let scale = exp(partial_sums[3u * (first + i / params.tile_sops)] - m);
    let at = row * params.sops + i;
    p[at] = (p[at] * scale + others) * inverse;
  }
  if (lane == 0u) { stats[row] = vec2(m, inverse); }`,
    )}`,
  });
}

export function sopProbabilitiesRowSumsKernel(layout: RowLayout): Kernel {
  return kernel({
    label: 'sop_probabilities.row_sums',
    enable: rowExtensions(layout),
    bindings: { p: read('f32'), dp: read('f32'), sums: write('vec4<f32>') },
    params: { rows: 'u32', sops: 'u32' },
    code: wgsl`${eachRow(
      layout,
      'row_sums',
      `
  let first = row * params.sops;
  var product = 0.0;
  for (var i = lane; i < params.sops; i += LANES) { product += dp[first + i] * p[first + i]; }
  let a = row_sum(product);
  var rest = 0.0;
  var total = 0.0;
  for (var i = lane; i < params.sops; i += LANES) {
    let g = dp[first + i] - a;
    rest += g * p[first + i];
    total += g;
  }
  let b = row_sum(rest);
  let all = row_sum(total) - b * f32(params.sops);
  if (lane == 0u) { sums[row] = vec4(a, b, all, 0.0); }`,
    )}`,
  });
}

/** Workgroups (ceil(rows / tileRows), tiles of the span); the span begins at tile `span_tile`, rows of w are `stride` apart. */
export function sopProbabilitiesWeightsKernel(variant: SopVariant): Kernel {
  const { columns, members, lanes, subgroup } = variant;
  const element = rowTileElement(variant);
  const { declaration, code } = logits(variant);
  return kernel({
    label: 'sop_probabilities.weights',
    enable: subgroup ? ['subgroups'] : [],
    bindings: {
      u: read(element),
      d: read(element),
      s: read('f32'),
      stats: read('vec2<f32>'),
      sums: read('vec4<f32>'),
      dp: read('f32'),
      w: write('f32'),
    },
    params: { ...PARAMS, stride: 'u32' },
    scalars: true,
    code: wgsl`${declaration}
@compute @workgroup_size(${lanes})
fn weights${ARGUMENTS} {
${code}
${eachTileRow(
  variant,
  (r) => `
    let inside = row0 + local + ${r} * ${lanes}u < params.rows;
    let row = min(row0 + local + ${r} * ${lanes}u, params.rows - 1u);
    let at = ${r} * ${columns}u;
    let m = stats[row].x;
    let scale = stats[row].y * inverse;
    let mean = sums[row].xy;
    let all = sums[row].z;
    var own: array<f32, ${tileSops(variant)}>;
    // The max keeps compilers that reorder sums, as those of Metal and Direct3D may, from adding up a and b first: b would be lost.
    for (var i = 0u; i < ${subgroup ? 'params.tile_sops' : `${tileSops(variant)}u`}; i++) { own[i] = max(dp[row * params.sops + min(sop0 + i, params.sops - 1u)] - mean.x, -3e38) - mean.y; }
${times(columns, (x) => `    acc[at + ${x}u] = scale * exp(acc[at + ${x}u] * inverse - m) * ((s_${x} - r_${x}) * own[${Math.floor(x / members)}] + r_${x} * all);`)}
    let out = row * params.stride + tile * ${columns}u;
    ${eachTileColumn(variant, (x) => `if (inside && ${x} < count) { w[out + ${x}] = acc[at + ${x}]; }`)}`,
)}
}
`,
  });
}
