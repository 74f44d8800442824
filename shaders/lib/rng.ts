import { FOLD, PARITY, ROTATIONS } from '../../src/rng.js';
import { wgsl } from './kernel.js';

/** Four rounds of Threefry and the injection of the key after them; `group` counts from 1. */
function fourRounds(group: number): string {
  const first = 4 * ((group - 1) % 2);
  const rounds = ROTATIONS.slice(first, first + 4).map(
    (bits) => `  a += b; b = ((b << ${bits}u) | (b >> ${32 - bits}u)) ^ a;`,
  );
  return `${rounds.join('\n')}\n  a += k[${group % 3}]; b += k[${(group + 1) % 3}] + ${group}u;`;
}

/**
 * `threefry(key, counter)`: Threefry-2x32 with 20 rounds (Salmon et al. 2011), bit for bit `threefry2x32` of src/rng.ts.
 * `fold(key, n)`: the key of the n-th sub-stream, as `fold` there.
 */
export const RNG = wgsl`
fn threefry(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
  let k = array<u32, 3>(key.x, key.y, key.x ^ key.y ^ 0x${PARITY.toString(16)}u);
  var a = counter.x + k[0];
  var b = counter.y + k[1];
${[1, 2, 3, 4, 5].map(fourRounds).join('\n')}
  return vec2<u32>(a, b);
}
fn fold(key: vec2<u32>, n: u32) -> vec2<u32> { return threefry(key, vec2<u32>(n, 0x${FOLD.toString(16)}u)); }
`;
