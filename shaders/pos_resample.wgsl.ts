// pos_resample: position embeddings learned on one grid, resampled bicubically for another (A = -0.75, no antialias), as
// PyTorch's interpolate does it with align_corners false and DINO's scale factor.
//
//   pos, dpos         [1 + from_y from_x, W]   row 0 belongs to [CLS] and is copied
//   resampled, dout   [1 + to_y to_x, W]
//
// forward    each output cell is the weighted sum of 4 x 4 cells, cells beyond the border being those on it
// backward   the transpose: each input cell collects from all output cells that read it
//
// Cell d of the new axis lies at (d + 1/2) / scale - 1/2 of the old one, with scale = (to + 0.1) / from. In tenths that is
// the fraction ((2 d + 1) a - b) / (2 b) of whole numbers a = 10 from, b = 10 to + 1: its whole part is exact, and the rest
// of it has one rounding. (a = b would leave the grid as it is.)

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

/** `width` in elements, `count`: elements of the result; a, b: see above. */
const PARAMS = {
  count: 'u32',
  width: 'u32',
  from_y: 'i32',
  from_x: 'i32',
  to_y: 'i32',
  to_x: 'i32',
  a_y: 'i32',
  a_x: 'i32',
  b_y: 'i32',
  b_x: 'i32',
} as const;

const TAPS = wgsl`
/** The first of the 4 old cells that new cell d reads, and their weights. */
struct Taps { first: i32, weights: vec4<f32> }
/** Weights of cells less than 1 and 1 to 2 away, t beyond the whole distance: factored, so that nothing cancels. */
fn near(t: f32) -> f32 { return (1.25 * t - 2.25) * t * t + 1.0; }
fn far(t: f32) -> f32 { return -0.75 * t * (1.0 - t) * (1.0 - t); }
fn taps(d: i32, a: i32, b: i32) -> Taps {
  let numerator = (2 * d + 1) * a - b;
  // Whole-number division rounds towards zero, so the numerator is made positive first: it is at least -b.
  let whole = (numerator + 2 * b) / (2 * b) - 1;
  let t = f32(numerator - whole * 2 * b) / f32(2 * b);
  return Taps(whole - 1, vec4(far(t), near(t), near(1.0 - t), far(1.0 - t)));
}
`;

export function posResampleForwardKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'pos_resample.forward',
    bindings: { pos: read(element), resampled: write(element) },
    params: PARAMS,
    code: wgsl`${TAPS}${each(
      'forward',
      `
  let column = i % params.width;
  let row = i / params.width;
  if (row == 0u) {
    resampled[i] = pos[i];
    return;
  }
  let cell = i32(row) - 1;
  let y = taps(cell / params.to_x, params.a_y, params.b_y);
  let x = taps(cell % params.to_x, params.a_x, params.b_x);
  var sum = ${element}();
  for (var j = 0; j < 4; j++) {
    let line = clamp(y.first + j, 0, params.from_y - 1) * params.from_x;
    var across = ${element}();
    for (var k = 0; k < 4; k++) {
      let source = 1 + line + clamp(x.first + k, 0, params.from_x - 1);
      across += x.weights[k] * pos[u32(source) * params.width + column];
    }
    sum += y.weights[j] * across;
  }
  resampled[i] = sum;`,
    )}`,
  });
}

export function posResampleBackwardKernel({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'pos_resample.backward',
    bindings: { dout: read(element), dpos: write(element) },
    params: PARAMS,
    code: wgsl`${TAPS}
/** Weight with which a new cell reads old cell target_cell of an axis of so many cells. */
fn weight(taps: Taps, target_cell: i32, cells: i32) -> f32 {
  var sum = 0.0;
  for (var k = 0; k < 4; k++) {
    sum += select(0.0, taps.weights[k], clamp(taps.first + k, 0, cells - 1) == target_cell);
  }
  return sum;
}
${each(
  'backward',
  `
  let column = i % params.width;
  let row = i / params.width;
  if (row == 0u) {
    dpos[i] = dout[i];
    return;
  }
  let cell = i32(row) - 1;
  var sum = ${element}();
  for (var y = 0; y < params.to_y; y++) {
    let weight_y = weight(taps(y, params.a_y, params.b_y), cell / params.from_x, params.from_y);
    if (weight_y == 0.0) { continue; }
    for (var x = 0; x < params.to_x; x++) {
      let weight_x = weight(taps(x, params.a_x, params.b_x), cell % params.from_x, params.from_x);
      if (weight_x == 0.0) { continue; }
      sum += weight_y * weight_x * dout[u32(1 + y * params.to_x + x) * params.width + column];
    }
  }
  dpos[i] = sum;`,
)}`,
  });
}
