// layernorm: y = (x - mean) r gamma + beta for each row, with r = 1 / sqrt(var + eps) and the biased variance.
//
//   x, y, dy, dx                [R, W]
//   gamma, beta, dgamma, dbeta  [W]
//   stats                       [R] of (mean, r)   all that backward needs besides x: xhat = (x - mean) r
//   partial_gamma, partial_beta [spans, W]         sums over `span` consecutive rows
//
// forward              y and stats
// backward_input       dx = r (g - mean(g) - xhat mean(g xhat)) with g = dy gamma
// backward_parameters  partial sums of dgamma = sum_rows dy xhat and dbeta = sum_rows dy; column_sum adds the partial sums
//
// The variance is summed from differences to a pivot near the mean, so that statistics take one pass over memory:
// var = mean((x - pivot)^2) - (mean - pivot)^2. With the mean of the row's first 4 LANES numbers as pivot (mean - pivot)^2
// is at most W / (4 LANES) variances and typically 1 / (4 LANES), so hardly anything cancels.

import type { Kernel } from '../src/graph/kernel.js';
import { each, elementType, real } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { eachRow, type RowLayout, rowExtensions } from './lib/rows.js';

/** `width` counts elements: groups of four columns with `vec4`. `columns` counts numbers. */
export function layernormForward({ vec4, layout }: { vec4: boolean; layout: RowLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'layernorm.forward',
    enable: rowExtensions(layout),
    bindings: {
      x: read(element),
      gamma: read(element),
      beta: read(element),
      y: write(element),
      stats: write('vec2<f32>'),
    },
    params: { rows: 'u32', width: 'u32', columns: 'f32', eps: 'f32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'forward',
      `
  let first = row * params.width;
  var sum = real();
  for (var i = lane; i < params.width; i += LANES) { sum += x[first + i]; }
  let mean = row_sum(across(sum)) / params.columns;
  var squares = real();
  for (var i = lane; i < params.width; i += LANES) {
    let d = x[first + i] - mean;
    squares += d * d;
  }
  let r = inverseSqrt(row_sum(across(squares)) / params.columns + params.eps);
  for (var i = lane; i < params.width; i += LANES) { y[first + i] = (x[first + i] - mean) * r * gamma[i] + beta[i]; }
  if (lane == 0u) { stats[row] = vec2(mean, r); }`,
    )}`,
  });
}

export function layernormBackwardInput({ vec4, layout }: { vec4: boolean; layout: RowLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'layernorm.backward_input',
    enable: rowExtensions(layout),
    bindings: {
      x: read(element),
      gamma: read(element),
      stats: read('vec2<f32>'),
      dy: read(element),
      dx: write(element),
    },
    params: { rows: 'u32', width: 'u32', columns: 'f32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'backward_input',
      `
  let first = row * params.width;
  let mean = stats[row].x;
  let r = stats[row].y;
  var sum = real();
  var product = real();
  for (var i = lane; i < params.width; i += LANES) {
    let g = dy[first + i] * gamma[i];
    sum += g;
    product += g * (x[first + i] - mean);
  }
  let mean_g = row_sum(across(sum)) / params.columns;
  let slope = row_sum(across(product)) / params.columns * r * r;
  for (var i = lane; i < params.width; i += LANES) {
    dx[first + i] = r * (dy[first + i] * gamma[i] - mean_g - (x[first + i] - mean) * slope);
  }`,
    )}`,
  });
}

/** Over spans x width elements; `count` = spans * width. */
export function layernormBackwardParameters({ vec4 }: { vec4: boolean }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'layernorm.backward_parameters',
    bindings: {
      x: read(element),
      stats: read('vec2<f32>'),
      dy: read(element),
      partial_gamma: write(element),
      partial_beta: write(element),
    },
    params: { count: 'u32', rows: 'u32', width: 'u32', span: 'u32' },
    code: each(
      'backward_parameters',
      `
  let begin = i / params.width * params.span;
  let end = min(params.rows, begin + params.span);
  var at = begin * params.width + i % params.width;
  var dgamma = ${element}();
  var dbeta = ${element}();
  for (var row = begin; row < end; row++) {
    let g = dy[at];
    dgamma += g * ((x[at] - stats[row].x) * stats[row].y);
    dbeta += g;
    at += params.width;
  }
  partial_gamma[i] = dgamma;
  partial_beta[i] = dbeta;`,
    ),
  });
}
