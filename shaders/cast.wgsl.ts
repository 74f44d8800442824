// cast: y = x, stored in another type; rounded to nearest where that is f16.
//
//   x, y   [n]

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { type EachLayout, each } from './lib/each.js';
import { kernel, read, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

interface CastVariant {
  readonly vec4: boolean;
  readonly layout: EachLayout;
  readonly from: RealType;
  readonly to: RealType;
}

export function castForwardKernel({ vec4, layout, from, to }: CastVariant): Kernel {
  const [x, y] = [reals('x', vec4, from), reals('y', vec4, to)];
  return kernel({
    label: 'cast.forward',
    bindings: { x: read(x.element), y: write(y.element) },
    params: { count: 'u32' },
    code: each('forward', y.put('i', x.at('i')), layout),
  });
}
