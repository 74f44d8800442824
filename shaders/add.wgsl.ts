// add: y = a + b, element by element.
//
//   a, b, y   [n]
//
// Four elements an invocation where n divides by four: a load instruction is what costs on software adapters.

import type { Kernel } from '../src/graph/kernel.js';
import { type EachLayout, each, elementType } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';

export function add({ vec4, layout }: { vec4: boolean; layout: EachLayout }): Kernel {
  const element = elementType(vec4);
  return kernel({
    label: 'add.forward',
    bindings: { a: read(element), b: read(element), y: write(element) },
    params: { count: 'u32' },
    code: each('forward', 'y[i] = a[i] + b[i];', layout),
  });
}
