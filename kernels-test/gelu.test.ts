import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { phi } from './gelu.js';

/** The normal distribution function of the reference, against mpmath's ncdf in 40 digits, rounded. */
const known = [
  [-12, 1.776482112077679e-33],
  [-6, 9.86587645037698e-10],
  [-3, 0.0013498980316300946],
  [-2.001, 0.02269619494564155],
  [-1.999, 0.02280417693265889],
  [-1, 0.15865525393145705],
  [-0.5, 0.3085375387259869],
  [-1e-8, 0.4999999960105772],
  [0, 0.5],
  [0.7, 0.758036347776927],
  [4, 0.9999683287581669],
] as const;

for (const [x, expected] of known) {
  test(`phi(${x})`, () => {
    const relative = Math.abs(phi(x) / expected - 1);
    // exp(-x^2 / 2) alone has a relative error of x^2 / 2 units in the last place; the series loses 4 bits at x = 2.
    assert.ok(relative <= (32 + (x * x) / 2) * 2 ** -53, `off by ${relative}`);
  });
}

test.run();
