import { test } from 'uvu';
import { f32, type Spec } from '../src/graph/tensor.js';
import { assertClose } from './compare.js';
import type { Values } from './declare.js';
import { fixture, fixtureValues } from './fixtures-support.js';
import { posResampleTests } from './pos_resample.js';

/** The reference of pos_resample and of its transpose against PyTorch's interpolate in float64 (fixtures/make_fixtures.py). */
const [given, expected] = [fixture('pos-resample.input'), fixture('pos-resample.expected')];

const width = 5;
const [forward, backward] = posResampleTests;
if (!forward || !backward) throw new Error('pos_resample has a test and its transpose another');

for (const [old, side] of [
  [14, 6],
  [4, 2],
  [2, 4],
  [5, 3],
] as const) {
  // biome-ignore format: one line
  const attrs = { from: [old, old], to: [side, side] } as const;
  const [native, other] = [f32(1 + old * old, width), f32(1 + side * side, width)];
  const run = (which: typeof forward, name: string, [from, to]: readonly [Spec, Spec]): Values | undefined =>
    which.reference({
      inputs: [fixtureValues(given, name)],
      specs: [from],
      outputs: [to],
      attrs,
      scalar: () => Number.NaN,
      wanted: () => true,
    })[0];
  test(`grid ${old} to ${side} as PyTorch`, () => {
    const output = run(forward, `${old}to${side}.position`, [native, other]);
    assertClose('output', other, output ?? [], fixtureValues(expected, `${old}to${side}.output`), 1e-13);
    const gradient = run(backward, `${old}to${side}.upstream`, [other, native]);
    assertClose('gradient', native, gradient ?? [], fixtureValues(expected, `${old}to${side}.gradient`), 1e-13);
  });
}

test.run();
