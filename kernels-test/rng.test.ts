import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  Draws,
  fold,
  permutation,
  permuted,
  purposes,
  stream,
  taskStream,
  threefry2x32,
  truncatedNormal,
  uniform,
} from '../src/rng.js';

test('Threefry-2x32-20 gives the known answers of Random123', () => {
  const ones = [0xffffffff, 0xffffffff] as const;
  assert.equal(threefry2x32([0, 0], [0, 0]), [0x6b200159, 0x99ba4efe]);
  assert.equal(threefry2x32(ones, ones), [0x1cb996fc, 0xbb002be7]);
  assert.equal(threefry2x32([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3]), [0xc4923a9c, 0x483df7a0]);
});

test('streams differ by seed, path and order, and from the numbers of their parent', () => {
  const keys = [
    stream(1),
    stream(2),
    stream(1 + 2 ** 32),
    stream(1, 0),
    stream(1, 0, 0),
    stream(1, 2, 3),
    stream(1, 3, 2),
    stream(1, 2 ** 32),
    threefry2x32(stream(1), [0, 0]),
  ];
  assert.is(new Set(keys.map(String)).size, keys.length);
  assert.equal(stream(7, 8, 9), fold(fold(stream(7), 8), 9));
  for (const wrong of [-1, 0.5, Number.NaN, 2 ** 53]) assert.throws(() => stream(wrong), /no whole number/);
});

test('purposes and the tasks of a purpose have streams of their own', () => {
  const names = Object.keys(purposes) as (keyof typeof purposes)[];
  const streams = names.flatMap((name) => [0, 1, 2].map((task) => taskStream(name, task)));
  assert.is(new Set(streams).size, streams.length);
});

test('draws are a function of seed, purpose, epoch, step and item, and of nothing else', () => {
  const occasion = { seed: 3, purpose: 'augment', epoch: 1, step: 2, item: 4 } as const;
  const sequence = (changes: object): number[] => {
    const draws = new Draws({ ...occasion, ...changes });
    return [draws.uniform(), draws.normal(), draws.below(1000), draws.uniform(5, 6)];
  };
  assert.equal(sequence({}), sequence({}));
  const changed = [{ seed: 4 }, { purpose: 'mask' }, { epoch: 2 }, { step: 1 }, { item: 5 }];
  for (const change of changed) assert.not.equal(sequence(change), sequence({}), JSON.stringify(change));
});

/** Mean and mean square of `count` numbers. */
function moments(count: number, next: () => number): { mean: number; square: number } {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < count; i++) {
    const value = next();
    sum += value;
    squares += value * value;
  }
  return { mean: sum / count, square: squares / count };
}

test('distributions have their moments, within four standard errors', () => {
  const count = 20_000;
  const draws = new Draws({ seed: 1, purpose: 'init' });
  const four = 4 / Math.sqrt(count);
  const flat = moments(count, () => draws.uniform());
  assert.ok(Math.abs(flat.mean - 1 / 2) < four * Math.sqrt(1 / 12));
  assert.ok(Math.abs(flat.square - 1 / 3) < four * Math.sqrt(4 / 45));
  const bell = moments(count, () => draws.normal());
  assert.ok(Math.abs(bell.mean) < four);
  assert.ok(Math.abs(bell.square - 1) < four * Math.SQRT2);
  const dice = moments(count, () => draws.below(6));
  assert.ok(Math.abs(dice.mean - 2.5) < four * Math.sqrt(35 / 12));
  assert.ok(Math.abs(moments(count, () => Number(draws.chance(0.2))).mean - 0.2) < four * 0.4);
  assert.not(draws.chance(0));
  assert.ok(draws.chance(1));
});

test('a truncated normal stays within two, absolute, and has the variance that is left', () => {
  const key = stream(5);
  let counter = 0;
  const cut = moments(20_000, () => {
    const value = truncatedNormal(key, counter++, 1);
    assert.ok(Math.abs(value) <= 2);
    return value;
  });
  // 1 - 2 * 2 phi(2) / (2 Phi(2) - 1)
  assert.ok(Math.abs(cut.square - 0.7737) < 0.03);
  const narrow = moments(5000, () => truncatedNormal(key, counter++, 0.02));
  assert.ok(Math.abs(Math.sqrt(narrow.square) / 0.02 - 1) < 0.05);
});

test('uniform numbers keep clear of one and use all their bits', () => {
  const values = Float64Array.from({ length: 2000 }, (_, i) => uniform(stream(9), i));
  assert.ok(values.every((value) => value >= 0 && value < 1));
  assert.is(new Set(values).size, 2000);
  assert.not.equal(uniform(stream(9), 3), uniform(stream(9), 3 + 2 ** 32));
});

test('an epoch visits every item once, in an order of its own', () => {
  for (const n of [0, 1, 2, 65, 1000])
    assert.equal(
      [...permutation(1, 0, n)].sort((a, b) => a - b),
      [...Array(n).keys()],
    );
  assert.equal(permutation(1, 3, 50), permutation(1, 3, 50));
  assert.not.equal(permutation(1, 3, 50), permutation(1, 4, 50));
  assert.not.equal(permutation(1, 3, 50), permutation(2, 3, 50));
});

test('a Feistel permutation maps [0, n) onto itself', () => {
  for (const n of [1, 2, 3, 4, 5, 7, 16, 17, 65, 197, 1000, 4097]) {
    const image = Array.from({ length: n }, (_, i) => permuted(stream(n), i, n));
    assert.equal(
      [...image].sort((a, b) => a - b),
      [...Array(n).keys()],
      `n = ${n}`,
    );
  }
  assert.ok(permuted(stream(1), 5, 2 ** 32) < 2 ** 32);
});

test('pairs of sampled rows are equally likely, within four standard deviations of chi square', () => {
  const [n, trials] = [7, 8400];
  const counts = new Float64Array(n * n);
  for (let seed = 0; seed < trials; seed++) {
    const key = stream(seed, 5, 11);
    const place = permuted(key, 0, n) * n + permuted(key, 1, n);
    counts[place] = (counts[place] ?? 0) + 1;
  }
  const expected = trials / (n * (n - 1));
  let chi = 0;
  for (let a = 0; a < n; a++) {
    for (let b = 0; b < n; b++) if (a !== b) chi += ((counts[a * n + b] ?? 0) - expected) ** 2 / expected;
  }
  const freedom = n * (n - 1) - 1;
  assert.ok(chi < freedom + 4 * Math.sqrt(2 * freedom), `chi square ${chi} for ${freedom} degrees of freedom`);
});

test.run();
