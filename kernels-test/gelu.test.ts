import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { phi } from './gelu.js';

/** The normal distribution function of the reference, against 19 digits from an arbitrary-precision library (mpmath's ncdf). */
const known = [
  [-12, 1.776482112077678998e-33],
  [-6, 9.865876450376981407e-10],
  [-3, 0.001349898031630094527],
  [-2.001, 0.02269619494564155058],
  [-1.999, 0.02280417693265888869],
  [-1, 0.1586552539314570514],
  [-0.5, 0.3085375387259868964],
  [-1e-8, 0.499999996010577196],
  [0, 0.5],
  [0.7, 0.7580363477769269853],
  [4, 0.9999683287581668801],
] as const;

for (const [x, expected] of known) {
  test(`phi(${x})`, () => {
    const relative = Math.abs(phi(x) / expected - 1);
    // exp(-x^2 / 2) alone has a relative error of x^2 / 2 units in the last place; the series loses 4 bits at x = 2.
    assert.ok(relative <= (32 + (x * x) / 2) * 2 ** -53, `off by ${relative}`);
  });
}

test.run();
