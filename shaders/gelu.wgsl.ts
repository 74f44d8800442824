// gelu: y = x Phi(x), with Phi the normal distribution function, (1 + erf(x / sqrt 2)) / 2. Element by element.
//
//   x, y, dy, dx   [n]
//
// forward    y  = max(x, 0) - |x| q(|x|)   with the tail q(a) = 1 - Phi(a): no cancellation where x is far below zero
// backward   dx = dy (Phi(x) + x phi(x))   with the density phi(x) = exp(-x^2 / 2) / sqrt(2 pi); x is all that is stored
//
// WGSL has no erf. With t = 4 / (4 + a), q(a) = exp(-a^2 / 2) t P(t), where P of degree 9 is the minimax fit of relative
// error 3.4e-8 over all a >= 0 (Remez exchange against 50 digits): half a unit in the last place of f32. Nothing overflows:
// for large a the exponential is zero and t small.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { type EachLayout, each, real } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

const TAIL = [
  0.0997355655, 0.0997364596, 0.0934657753, 0.0816084221, 0.0589492023, 0.0637726635, -0.031842228, 0.0957215652,
  -0.0809447095, 0.0197972618,
];

const horner = TAIL.slice(0, -1).reduceRight((inner, c) => `real(${c}) + t * (${inner})`, `real(${TAIL.at(-1)})`);

const NORMAL = wgsl`
fn gauss(a: real) -> real { return exp(-0.5 * a * a); }
fn tail(a: real, gauss: real) -> real {
  let t = 4.0 / (4.0 + a);
  return gauss * t * (${horner});
}
`;

interface GeluVariant {
  readonly vec4: boolean;
  readonly layout: EachLayout;
  readonly type: RealType;
}

export function geluForwardKernel({ vec4, layout, type }: GeluVariant): Kernel {
  const [x, y] = [reals('x', vec4, type), reals('y', vec4, type)];
  return kernel({
    label: 'gelu.forward',
    bindings: { x: read(x.element), y: write(y.element) },
    params: { count: 'u32' },
    code: wgsl`${real(vec4)}${NORMAL}${each(
      'forward',
      `
  let v = ${x.at('i')};
  let a = abs(v);
  ${y.put('i', '0.5 * (v + a) - a * tail(a, gauss(a))')}`,
      layout,
    )}`,
  });
}

export function geluBackwardKernel({ vec4, layout, type }: GeluVariant): Kernel {
  const [x, dy, dx] = [reals('x', vec4, type), reals('dy', vec4, type), reals('dx', vec4, type)];
  return kernel({
    label: 'gelu.backward',
    bindings: { x: read(x.element), dy: read(dy.element), dx: write(dx.element) },
    params: { count: 'u32' },
    code: wgsl`${real(vec4)}${NORMAL}${each(
      'backward',
      `
  let v = ${x.at('i')};
  let a = abs(v);
  let density = gauss(a);
  let q = tail(a, density);
  ${dx.put('i', `${dy.at('i')} * (select(q, 1.0 - q, v >= real(0.0)) + ${1 / Math.sqrt(2 * Math.PI)} * v * density)`)}`,
      layout,
    )}`,
  });
}
