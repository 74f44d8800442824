// add: y = a + b, element by element.
//
//   a, b, y   [n]
//
// Four elements an invocation where n divides by four: a load instruction is what costs on software adapters.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { type EachLayout, each } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

export function addForwardKernel({
  vec4,
  layout,
  type,
}: {
  vec4: boolean;
  layout: EachLayout;
  type: RealType;
}): Kernel {
  const [a, b, y] = [reals('a', vec4, type), reals('b', vec4, type), reals('y', vec4, type)];
  return kernel({
    label: 'add.forward',
    bindings: { a: read(a.element), b: read(b.element), y: write(y.element) },
    params: { count: 'u32' },
    code: each('forward', y.put('i', `${a.at('i')} + ${b.at('i')}`), layout),
  });
}
