// l2_normalize: y = x / max(|x|, eps) for each row, |x| the Euclidean norm.
//
//   x, y, dy, dx   [R, W]
//   norm           [R]      |x|, not raised to eps
//
// forward    y and norm
// backward   dx = (dy - y (y . dy)) / norm, the part of dy that turns x; dx = dy / eps where norm < eps

import type { Kernel } from '../src/graph/kernel.js';
import { elementType, real } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { eachRow, type RowLayout, rowExtensions } from './lib/rows.js';

/** `width` counts elements: groups of four columns with `vec4`. */
export function l2NormalizeForward({ vec4, layout }: { vec4: boolean; layout: RowLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'l2_normalize.forward',
    enable: rowExtensions(layout),
    bindings: { x: read(element), y: write(element), norm: write('f32') },
    params: { rows: 'u32', width: 'u32', eps: 'f32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'forward',
      `
  let first = row * params.width;
  var squares = real();
  for (var i = lane; i < params.width; i += LANES) { squares += x[first + i] * x[first + i]; }
  let length = sqrt(row_sum(across(squares)));
  let scale = 1.0 / max(length, params.eps);
  for (var i = lane; i < params.width; i += LANES) { y[first + i] = x[first + i] * scale; }
  if (lane == 0u) { norm[row] = length; }`,
    )}`,
  });
}

export function l2NormalizeBackward({ vec4, layout }: { vec4: boolean; layout: RowLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'l2_normalize.backward',
    enable: rowExtensions(layout),
    bindings: { y: read(element), norm: read('f32'), dy: read(element), dx: write(element) },
    params: { rows: 'u32', width: 'u32', eps: 'f32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'backward',
      `
  let first = row * params.width;
  let length = norm[row];
  var product = real();
  for (var i = lane; i < params.width; i += LANES) { product += y[first + i] * dy[first + i]; }
  let turned = row_sum(across(product));
  let along = select(turned, 0.0, length < params.eps);
  let scale = 1.0 / max(length, params.eps);
  for (var i = lane; i < params.width; i += LANES) { dx[first + i] = (dy[first + i] - y[first + i] * along) * scale; }`,
    )}`,
  });
}
