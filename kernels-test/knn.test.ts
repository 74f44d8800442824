import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { residentSet } from '../src/data/dataset.js';
import { symmetricEigenvalues } from '../src/eval/eigenvalues.js';
import { quickProtocol } from '../src/eval/evaluator.js';
import { classify, standardError } from '../src/eval/knn.js';
import { nearest, normalizeRows } from '../src/eval/similarity.js';
import { spread } from '../src/eval/spread.js';
import { openNodeGpu } from '../src/node.js';
import { Random } from './declare.js';

const near = (got: number | undefined, expected: number): void =>
  assert.ok(Math.abs((got ?? Number.NaN) - expected) < 1e-9, `${got}, expected ${expected}`);

test('the vote by hand', () => {
  // exp(0.7 / 0.07) = e^10 of class 0 against 2 e^9.5 of class 1: one against two is not enough at k = 2, but at 3.
  const found = { k: 3, index: Int32Array.of(0, 1, 2), score: Float32Array.of(0.7, 0.665, 0.665) };
  const gallery = Int32Array.of(0, 1, 1);
  const one = classify(found, gallery, Int32Array.of(1), 2, [1, 2, 3]);
  assert.equal([one.top1, one.bestK], [{ 1: 0, 2: 0, 3: 100 }, 3]);
  const zero = classify(found, gallery, Int32Array.of(0), 2, [1, 2, 3]);
  assert.equal([zero.top1, zero.bestK], [{ 1: 100, 2: 100, 3: 0 }, 1]);
});

test('top-5 looks for the class among the five with most votes', () => {
  const found = {
    k: 7,
    index: Int32Array.from({ length: 14 }, (_, i) => i % 7),
    score: new Float32Array(14).map((_, i) => 0.9 - 0.05 * (i % 7)),
  };
  const { top1, top5 } = classify(found, Int32Array.of(6, 5, 4, 3, 2, 1, 0), Int32Array.of(2, 1), 9, [1, 7]);
  assert.equal(top1, { 1: 0, 7: 0 });
  assert.equal(top5, { 1: 0, 7: 50 }, 'class 2 comes fifth, class 1 sixth; at k = 1 neither has a vote');
});

test('a class without votes is not among the five, where there are fewer than that', () => {
  const found = { k: 2, index: Int32Array.of(0, 1), score: Float32Array.of(0.9, 0.5) };
  const { top5 } = classify(found, Int32Array.of(1, 0), Int32Array.of(0), 3, [1, 2]);
  assert.equal(top5, { 1: 0, 2: 100 });
});

test('equal votes go to the lower class, more neighbours than there are to no one', () => {
  const found = { k: 2, index: Int32Array.of(0, 1), score: Float32Array.of(0.5, 0.5) };
  assert.equal(classify(found, Int32Array.of(4, 3), Int32Array.of(3), 5, [2, 10]).top1, { 2: 100 });
  assert.equal(classify(found, Int32Array.of(4, 3), Int32Array.of(4), 5, [2]).top1, { 2: 0 });
  assert.equal(classify(found, Int32Array.of(4, 3), Int32Array.of(3), 5, [10]).top1, { 2: 100 }, 'all there are');
});

test('standard error of a share', () => {
  near(standardError(50, 100), 5);
  near(standardError(80, 10_000), 0.4);
});

test('rows of unit norm; rows of zeros stay', () => {
  assert.equal([...normalizeRows(Float32Array.of(3, 4, 0, 0), 2)], [Math.fround(0.6), Math.fround(0.8), 0, 0]);
});

/** So many images of one grey pixel, each of a class of its own, which tells them apart. */
const pixels = (count: number, labels: Int32Array | null = Int32Array.from({ length: count }, (_, i) => i)) =>
  residentSet({ name: 'dots', channels: 1, width: 1, height: 1, pixels: new Uint8Array(count), labels });

test('an evaluation between steps looks at 5000 and 2000 images, always the same ones, in their order', () => {
  const [train, held] = [pixels(5001), pixels(5001)];
  const { gallery, queries, k } = quickProtocol(train, held, [10], 3);
  const [own, asked] = [gallery.labels!, queries!.labels!];
  assert.equal([own.length, asked.length, k], [5000, 2000, [10]]);
  for (const list of [own, asked]) assert.ok(list.every((label, i) => i === 0 || label > list[i - 1]!));
  // A share of 2000 / 5001 of what is drawn at random lies in any part of the set: 1000 +- 25 in each half.
  const low = asked.findIndex((label) => label >= 2500);
  assert.ok(Math.abs(low - 1000) < 6 * 25, `${low} queries of the first half`);
  assert.equal([...quickProtocol(train, held, [10], 3).queries!.labels!], [...asked]);
  assert.not.equal([...quickProtocol(train, held, [10], 4).queries!.labels!], [...asked]);
});

test('small sets are looked at whole, and there are no queries where labels are missing', () => {
  const [train, held] = [pixels(5000), pixels(2000)];
  const { gallery, queries } = quickProtocol(train, held, [10], 3);
  assert.ok(gallery === train && queries === held);
  assert.is(quickProtocol(train, null, [10], 3).queries, null);
  assert.is(quickProtocol(pixels(9, null), held, [10], 3).queries, null);
  assert.is(quickProtocol(train, pixels(9, null), [10], 3).queries, null);
});

const gpu = await openNodeGpu({ quiet: true });

/** Small whole numbers: products are exact in f32, so ties are real ties. */
function wholeRows(rows: number, width: number, seed: number): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: rows * width }, () => random.below(5) - 2);
}

/** Gallery rows of one query by falling product, ties to the lower row. */
function order(
  query: Float32Array,
  gallery: Float32Array,
  width: number,
  without: number,
): { row: number; score: number }[] {
  return Array.from({ length: gallery.length / width }, (_, row) => {
    let score = 0;
    for (let i = 0; i < width; i++) score += query[i]! * gallery[row * width + i]!;
    return { row, score };
  })
    .filter(({ row }) => row !== without)
    .sort((a, b) => b.score - a.score || a.row - b.row);
}

for (const [name, rows, queries, width, k] of [
  ['many ties', 300, 7, 3, 20],
  ['more queries than a block', 30, 300, 5, 4],
  ['more gallery rows than a block', 20_000, 3, 4, 9],
  ['fewer gallery rows than asked for', 5, 3, 6, 50],
] as const) {
  test(`search: ${name}`, async () => {
    const gallery = wholeRows(rows, width, 1);
    const asked = wholeRows(queries, width, 2);
    const told: number[] = [];
    const found = await nearest(gpu, asked, gallery, width, k, { progress: (done) => told.push(done) });
    assert.is(found.k, Math.min(k, rows));
    assert.is(told.at(-1), queries);
    assert.ok(told.every((done, i) => done > (told[i - 1] ?? 0)));
    for (let q = 0; q < queries; q++) {
      const expected = order(asked.subarray(q * width, (q + 1) * width), gallery, width, -1).slice(0, found.k);
      assert.equal(
        [...found.index.subarray(q * found.k, (q + 1) * found.k)],
        expected.map(({ row }) => row),
        `query ${q}`,
      );
      assert.equal(
        [...found.score.subarray(q * found.k, (q + 1) * found.k)],
        expected.map(({ score }) => score),
        `query ${q}`,
      );
    }
  });
}

test('search among the gallery itself leaves out the row that asks', async () => {
  const gallery = wholeRows(40, 3, 5);
  const found = await nearest(gpu, gallery, gallery, 3, 100, { skipSelf: true });
  assert.is(found.k, 39);
  for (let q = 0; q < 40; q++) {
    const expected = order(gallery.subarray(3 * q, 3 * q + 3), gallery, 3, q).map(({ row }) => row);
    assert.equal([...found.index.subarray(q * 39, (q + 1) * 39)], expected, `query ${q}`);
  }
});

test('rows too wide for a block of 16384 come in smaller ones', async () => {
  const width = 2 ** 21;
  const gallery = new Float32Array(10 * width);
  for (let row = 0; row < 10; row++) gallery[row * width + row] = 1 + row;
  const found = await nearest(gpu, gallery.subarray(9 * width), gallery, width, 2);
  assert.equal(
    [[...found.index], [...found.score]],
    [
      [9, 0],
      [100, 0],
    ],
  );
});

test('spread: 1 on a sphere, 0 collapsed', () => {
  const axes = Float32Array.of(1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1, 0, 0, 0, 1, 0, 0, -1);
  near(spread(axes, 3).featureStd, 1);
  near(spread(axes, 3).effectiveRank, 3);
  near(spread(new Float32Array(30).fill(0.5), 3).featureStd, 0);
  near(spread(Float32Array.of(0.6, 0.8, -0.6, -0.8), 2).effectiveRank, 1);
});

test('eigenvalues: the known ones of a chain, and the sums that every matrix keeps', () => {
  // 2 on the diagonal, -1 beside it: 2 - 2 cos(pi i / (n + 1)).
  const n = 30;
  const chain = Float64Array.from({ length: n * n }, (_, at) => [2, -1][Math.abs((at % n) - Math.floor(at / n))] ?? 0);
  const expected = Array.from({ length: n }, (_, i) => 2 - 2 * Math.cos((Math.PI * (i + 1)) / (n + 1)));
  symmetricEigenvalues(chain, n)
    .sort()
    .forEach((value, i) => {
      near(value, expected[i]!);
    });
  // A dense matrix of rank 3 with eigenvalues 5, 2 and -4: a sum of outer products of orthogonal vectors.
  const wave = (k: number): number[] =>
    Array.from({ length: n }, (_, i) => Math.sqrt(2 / n) * Math.cos((Math.PI * k * (i + 0.5)) / n));
  const parts = [
    [5, wave(1)],
    [2, wave(7)],
    [-4, wave(12)],
  ] as const;
  const dense = Float64Array.from({ length: n * n }, (_, at) =>
    parts.reduce((sum, [value, v]) => sum + value * v[at % n]! * v[Math.floor(at / n)]!, 0),
  );
  const found = [...symmetricEigenvalues(dense, n)].sort((a, b) => Math.abs(b) - Math.abs(a));
  [5, -4, 2, 0, 0].forEach((value, i) => {
    near(found[i], value);
  });
  assert.equal([...symmetricEigenvalues(Float64Array.of(0, 0, 0, 0), 2)], [0, 0]);
});

test.after(() => gpu.close());

test.run();
