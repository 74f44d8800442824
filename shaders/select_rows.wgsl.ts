// select_rows: K of M candidates without replacement, those whose neighbours are alike more often (`low-energy`).
//
//   candidates  [M]      u32, rows of a memory
//   score       [M, k]   similarities of each candidate's neighbours
//   keys        [M']     u32, M' = M rounded up to a multiple of four
//   anchors     [K]      u32
//
// Efraimidis and Spirakis: with weights w the K largest of log(u) / w, u uniform in (0, 1], are such a draw. Here
// 1 / w = std / (|mean| + 1e-8) + 1e-8 of the k scores, and log(u) is multiplied by that.
// stage `weigh`: a candidate an invocation. -log(u) / w is not negative, so that its bits order it, read as u32: what is
// not finite comes after all numbers, padding after everything.
// stage `rank`: a candidate an invocation. Its place among the anchors is the number of keys before its own, ties to the
// lower candidate.

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { RNG } from './lib/rng.js';

export function selectRowsWeighKernel(): Kernel {
  return kernel({
    label: 'select_rows.weigh',
    bindings: { score: read('f32'), keys: write('u32') },
    params: { count: 'u32', candidates: 'u32', neighbours: 'u32', stream: 'u32', seed_slot: 'u32', step_slot: 'u32' },
    scalars: true,
    code: wgsl`${RNG}${each(
      'weigh',
      `
  let first = min(i, params.candidates - 1u) * params.neighbours;
  let n = f32(params.neighbours);
  var sum = 0.0;
  for (var j = 0u; j < params.neighbours; j++) { sum += score[first + j]; }
  let mean = sum / n;
  var squares = 0.0;
  for (var j = 0u; j < params.neighbours; j++) { squares += (score[first + j] - mean) * (score[first + j] - mean); }
  let inverse_weight = sqrt(squares / n) / (abs(mean) + 1e-8) + 1e-8;
  let key = fold(fold(vec2<u32>(scalar_u32(params.seed_slot), 0u), params.stream), scalar_u32(params.step_slot));
  let u = f32((threefry(key, vec2<u32>(i, 0u)).x >> 8u) + 1u) / 16777216.0;
  keys[i] = select(0xffffffffu, bitcast<u32>(abs(log(u) * inverse_weight)), i < params.candidates);`,
    )}`,
  });
}

export function selectRowsRankKernel(): Kernel {
  return kernel({
    label: 'select_rows.rank',
    bindings: { candidates: read('u32'), keys: read('vec4<u32>'), anchors: write('u32') },
    params: { count: 'u32', first: 'u32', quads: 'u32', selected: 'u32' },
    code: each(
      'rank',
      `
  let candidate = params.first + i;
  let own = keys[candidate / 4u][candidate % 4u];
  var before = vec4<u32>(0u);
  for (var quad = 0u; quad < params.quads; quad++) {
    let other = keys[quad];
    let lower = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(candidate);
    before += select(vec4<u32>(0u), vec4<u32>(1u), (other < vec4<u32>(own)) | ((other == vec4<u32>(own)) & lower));
  }
  let place = before.x + before.y + before.z + before.w;
  if (place < params.selected) { anchors[place] = candidates[candidate]; }`,
    ),
  });
}
