// softmax: y = exp(x - m) / z for each row, with m = max(x) and z = sum exp(x - m).
//
//   x, y, dy, dx   [R, N]
//
// forward    y; nothing else is kept: backward needs y alone
// backward   dx = y (dy - sum(y dy))
//
// A short row stays in registers; of a longer one the numbers are loaded, and the exponentials taken, once for each use.

import type { Kernel } from '../src/graph/kernel.js';
import { elementType, real } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { rowMax } from './lib/row-max.js';
import { eachRow, type RowLayout, rowElements, rowExtensions } from './lib/rows.js';

interface SoftmaxVariant {
  readonly vec4: boolean;
  readonly layout: RowLayout;
  /** From `rowRegisters`. */
  readonly registers: number;
}

/** `width` counts elements: groups of four columns with `vec4`. */
export function softmaxForwardKernel({ vec4, layout, registers }: SoftmaxVariant): Kernel {
  const element = elementType(vec4);
  const elements = rowElements(registers, { v: (i) => `x[first + ${i}]` });
  return kernel({
    label: 'softmax.forward',
    enable: rowExtensions(layout),
    bindings: { x: read(element), y: write(element) },
    params: { rows: 'u32', width: 'u32' },
    code: wgsl`${real(vec4)}${rowMax(layout)}${eachRow(
      layout,
      'forward',
      wgsl`
  let first = row * params.width;
  ${elements.load}
  // Of the row itself: a lane without elements of its own must not bring in another number.
  var high = x[first];
  ${elements.loop('high = max(high, v);')}
#if ${vec4}
  let m = row_max(max(max(high.x, high.y), max(high.z, high.w)));
#else
  let m = row_max(high);
#endif
  var sum = real();
  ${elements.loop('sum += exp(v - m);')}
  let r = 1.0 / row_sum(across(sum));
  ${elements.loop('y[first + i] = exp(v - m) * r;')}`,
    )}`,
  });
}

export function softmaxBackwardKernel({ vec4, layout, registers }: SoftmaxVariant): Kernel {
  const element = elementType(vec4);
  const elements = rowElements(registers, { p: (i) => `y[first + ${i}]`, g: (i) => `dy[first + ${i}]` });
  return kernel({
    label: 'softmax.backward',
    enable: rowExtensions(layout),
    bindings: { y: read(element), dy: read(element), dx: write(element) },
    params: { rows: 'u32', width: 'u32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'backward',
      `
  let first = row * params.width;
  ${elements.load}
  var sum = real();
  ${elements.loop('sum += p * g;')}
  let mean = row_sum(across(sum));
  ${elements.loop('dx[first + i] = p * (g - mean);')}`,
    )}`,
  });
}
