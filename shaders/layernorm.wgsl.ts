// layernorm: y = (x - mean) r gamma + beta for each row, with r = 1 / sqrt(var + eps) and the biased variance.
//
//   x, y, dy, dx                [R, W]
//   gamma, beta, dgamma, dbeta  [W]
//   stats                       [R] of (mean, r)   all that backward needs besides x: xhat = (x - mean) r
//   partial_gamma, partial_beta [spans, W]         sums over `span` consecutive rows
//
// forward              y and stats
// backward             dx = r (g - mean(g) - xhat mean(g xhat)) with g = dy gamma; with `sums` the partial sums too
// backward_parameters  partial sums of dgamma = sum_rows dy xhat and dbeta = sum_rows dy; column_sum adds the partial sums
//
// Load instructions are what costs on software adapters. A short row stays in registers, so that only the first pass over it
// loads; there the partial sums cost no load of their own. Of a longer one mean and variance are summed in one pass, from
// differences to a pivot near the mean: var = mean((x - pivot)^2) - (mean - pivot)^2. With the mean of n numbers spread over
// the row as pivot, (mean - pivot)^2 is 1 / n of the variance typically and W / n times it at most, so little cancels.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { each, elementType, real } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';
import { eachRow, type RowLayout, rowElements, rowExtensions } from './lib/rows.js';

interface LayernormVariant {
  readonly vec4: boolean;
  readonly layout: RowLayout;
  /** From `rowRegisters`. */
  readonly registers: number;
  /** Of x and dx, and of y and dy; all else is f32. */
  readonly types: Readonly<Record<'x' | 'y', RealType>>;
}

/** `width` counts elements: groups of four columns with `vec4`; `samples`: elements for the pivot. `columns` counts numbers. */
export function layernormForwardKernel({ vec4, layout, registers, types }: LayernormVariant): Kernel {
  const element = elementType(vec4);
  const [x, y] = [reals('x', vec4, types.x), reals('y', vec4, types.y)];
  const elements = rowElements(
    registers,
    { v: (i) => x.at(`first + ${i}`) },
    { scale: (i) => `gamma[${i}]`, shift: (i) => `beta[${i}]` },
  );
  // Sums of as many numbers of f16 are exact in f32. Their differences to a pivot share low bits, and are all rounded alike.
  const half = types.x === 'f16';
  return kernel({
    label: 'layernorm.forward',
    enable: rowExtensions(layout),
    bindings: {
      x: read(x.element),
      gamma: read(element),
      beta: read(element),
      y: write(y.element),
      stats: write('vec2<f32>'),
    },
    params: { rows: 'u32', width: 'u32', columns: 'f32', eps: 'f32', samples: 'u32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'forward',
      wgsl`
  let first = row * params.width;
  var near = real();
  ${elements.load}
#if ${registers > 0}
  ${elements.loop('near += v;')}
  let pivot = row_sum(across(near)) / params.columns;
#else
  for (var n = 0u; n < params.samples; n++) { near += ${x.at('first + n * params.width / params.samples')}; }
  let pivot = across(near) / (f32(params.samples) * params.columns / f32(params.width));
#endif
  var sum = real();
  var squares = real();
  ${elements.loop(`let d = v - pivot; sum += ${half ? 'v' : 'd'}; squares += d * d;`)}
  let offset = row_sum(across(sum)) / params.columns${half ? ' - pivot' : ''};
  let variance = row_sum(across(squares)) / params.columns - offset * offset;
  let r = inverseSqrt(max(variance, 0.0) + params.eps);
  ${elements.loop(y.put('first + i', '(v - pivot - offset) * r * scale + shift'))}
  if (lane == 0u) { stats[row] = vec2(pivot + offset, r); }`,
      elements.before,
    )}`,
  });
}

interface LayernormBackwardVariant extends LayernormVariant {
  /** Does a workgroup write the partial sums over its rows, which are a span? Where rows are in registers. */
  readonly sums: boolean;
}

export function layernormBackwardKernel({ vec4, layout, registers, types, sums }: LayernormBackwardVariant): Kernel {
  const element = elementType(vec4);
  const [x, dy, dx] = [reals('x', vec4, types.x), reals('dy', vec4, types.y), reals('dx', vec4, types.x)];
  const elements = rowElements(
    registers,
    { d: (i) => `${x.at(`first + ${i}`)} - mean`, v: (i) => dy.at(`first + ${i}`) },
    { scale: (i) => `gamma[${i}]` },
    sums ? ['dgamma', 'dbeta'] : [],
  );
  const partials = sums ? { partial_gamma: write(element), partial_beta: write(element) } : {};
  return kernel({
    label: 'layernorm.backward',
    enable: rowExtensions(layout),
    bindings: {
      x: read(x.element),
      gamma: read(element),
      stats: read('vec2<f32>'),
      dy: read(dy.element),
      dx: write(dx.element),
      ...partials,
    },
    params: { rows: 'u32', width: 'u32', columns: 'f32' },
    code: wgsl`${real(vec4)}${eachRow(
      layout,
      'backward',
      `
  let first = row * params.width;
  let mean = stats[row].x;
  let r = stats[row].y;
  var sum = real();
  var product = real();
  ${elements.load}
  ${elements.loop('let g = v * scale; sum += g; product += g * d;')}
  let mean_g = row_sum(across(sum)) / params.columns;
  let slope = row_sum(across(product)) / params.columns * r * r;
  ${elements.loop(dx.put('first + i', 'r * (v * scale - mean_g - d * slope)'))}
  ${sums ? elements.loop('*dgamma += v * (d * r); *dbeta += v;') : ''}`,
      elements.before,
      sums
        ? `let at = group * params.width;
  if (group * ${layout.turns}u < params.rows) {
  ${elements.total('partial_gamma[at + i] = *dgamma; partial_beta[at + i] = *dbeta;')}
  }`
        : '',
    )}`,
  });
}

/** Over spans x width elements; `count` = spans * width. */
export function layernormBackwardParametersKernel({ vec4, types }: Pick<LayernormVariant, 'vec4' | 'types'>): Kernel {
  const element = elementType(vec4);
  const [x, dy] = [reals('x', vec4, types.x), reals('dy', vec4, types.y)];
  return kernel({
    label: 'layernorm.backward_parameters',
    bindings: {
      x: read(x.element),
      stats: read('vec2<f32>'),
      dy: read(dy.element),
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
    let g = ${dy.at('at')};
    dgamma += g * ((${x.at('at')} - stats[row].x) * stats[row].y);
    dbeta += g;
    at += params.width;
  }
  partial_gamma[i] = dgamma;
  partial_beta[i] = dbeta;`,
    ),
  });
}
