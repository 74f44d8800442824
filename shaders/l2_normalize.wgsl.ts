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
import { eachRow, type RowLayout, rowElements, rowExtensions } from './lib/rows.js';

interface L2NormalizeVariant {
  readonly vec4: boolean;
  readonly layout: RowLayout;
  /** From `rowRegisters`. */
  readonly registers: number;
}

/** `width` counts elements: groups of four columns with `vec4`. */
export function l2NormalizeForwardKernel({ vec4, layout, registers }: L2NormalizeVariant): Kernel {
  const element = elementType(vec4);
  const elements = rowElements(registers, { v: (i) => `x[first + ${i}]` });
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
  ${elements.load}
  var squares = real();
  ${elements.loop('squares += v * v;')}
  let length = sqrt(row_sum(across(squares)));
  let scale = 1.0 / max(length, params.eps);
  ${elements.loop('y[first + i] = v * scale;')}
  if (lane == 0u) { norm[row] = length; }`,
    )}`,
  });
}

export function l2NormalizeBackwardKernel({ vec4, layout, registers }: L2NormalizeVariant): Kernel {
  const element = elementType(vec4);
  const elements = rowElements(registers, { v: (i) => `y[first + ${i}]`, g: (i) => `dy[first + ${i}]` });
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
  ${elements.load}
  var product = real();
  ${elements.loop('product += v * g;')}
  let turned = row_sum(across(product));
  let along = select(turned, 0.0, length < params.eps);
  let scale = 1.0 / max(length, params.eps);
  ${elements.loop('dx[first + i] = (g - v * along) * scale;')}`,
    )}`,
  });
}
