// sample_rows: `count` different rows of [0, total), uniform without replacement, the same for the same (seed, stream, step).
//
//   index     [count]   u32
//
// Invocation i computes where a keyed permutation of [0, total) puts i, on its own: a balanced Feistel network over the
// next power of four, Threefry as round function, walked along its cycle until it lands inside [0, total).
// That is `permuted(stream(seed, stream, step), i, total)` of src/rng.ts.

import type { Kernel } from '../src/graph/kernel.js';
import { FEISTEL_ROUNDS } from '../src/rng.js';
import { each } from './lib/each.js';
import { kernel, wgsl, write } from './lib/kernel.js';
import { RNG } from './lib/rng.js';

export function sampleRowsForwardKernel(): Kernel {
  return kernel({
    label: 'sample_rows.forward',
    bindings: { index: write('u32') },
    params: { count: 'u32', total: 'u32', half_bits: 'u32', stream: 'u32', seed_slot: 'u32', step_slot: 'u32' },
    scalars: true,
    code: wgsl`${RNG}${each(
      'forward',
      `
  let key = fold(fold(vec2<u32>(scalar_u32(params.seed_slot), 0u), params.stream), scalar_u32(params.step_slot));
  let bits = params.half_bits;
  let mask = (1u << bits) - 1u;
  var value = i;
  loop {
    var left = value >> bits;
    var right = value & mask;
    for (var round = 0u; round < ${FEISTEL_ROUNDS}u; round++) {
      let mixed = left ^ (threefry(key, vec2<u32>(right, round)).x & mask);
      left = right;
      right = mixed;
    }
    value = (left << bits) | right;
    if (value < params.total) { break; }
  }
  index[i] = value;`,
    )}`,
  });
}
