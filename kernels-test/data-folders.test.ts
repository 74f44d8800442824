import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, promises, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DecodedImage } from '../src/data/dataset.js';
import { checkData } from '../src/data/node/check.js';
import { decodeImage, imageInfo } from '../src/data/node/decode.js';
import { type BadImage, badImageCap } from '../src/data/node/folder-set.js';
import { openDataset } from '../src/data/node/open.js';
import { Prefetcher } from '../src/data/prefetch.js';
import { ExitCode } from '../src/errors.js';
import { fails, picture, temporaryFolder, writeTree } from './data-support.js';

const folder = temporaryFolder();
const png = (width: number, height: number, channels: 1 | 3 | 4 = 3, seed = 1) =>
  picture(width, height, channels, seed).png().toBuffer();

test('every kind of image becomes 8-bit sRGB or grey', async () => {
  const place = join(folder, 'kinds');
  mkdirSync(place);
  const plain = picture(8, 6, 3, 1, [250, 100, 10]);
  const wide = Uint16Array.from({ length: 8 * 6 * 3 }, (_, i) => [60000, 30000, 0][i % 3]!);
  const frames = Buffer.from(Array.from({ length: 8 * 12 * 3 }, (_, i) => (i < 8 * 6 * 3 ? 200 : 0)));
  const files: readonly (readonly [string, Promise<Buffer>, readonly number[], number])[] = [
    ['a.jpg', plain.clone().jpeg({ quality: 100 }).toBuffer(), [250, 100, 10], 3],
    ['a.png', plain.clone().png().toBuffer(), [250, 100, 10], 0],
    ['a.webp', plain.clone().webp({ lossless: true }).toBuffer(), [250, 100, 10], 0],
    ['a.avif', plain.clone().avif({ lossless: true }).toBuffer(), [250, 100, 10], 3],
    ['a.tiff', plain.clone().tiff({ compression: 'lzw' }).toBuffer(), [250, 100, 10], 0],
    ['a.gif', plain.clone().gif().toBuffer(), [250, 100, 10], 3],
    ['palette.png', plain.clone().png({ palette: true }).toBuffer(), [250, 100, 10], 3],
    ['alpha.png', picture(8, 6, 4, 1, [200, 100, 50, 0]).png().toBuffer(), [200, 100, 50], 0],
    ['cmyk.jpg', plain.clone().toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer(), [250, 100, 10], 40],
    [
      'wide.png',
      sharp(wide, { raw: { width: 8, height: 6, channels: 3 } })
        .toColourspace('rgb16')
        .png()
        .toBuffer(),
      [234, 117, 0],
      1,
    ],
    ['grey.jpg', picture(8, 6, 1, 1, [77]).jpeg().toBuffer(), [77, 77, 77], 1],
    [
      'animated.gif',
      sharp(frames, { raw: { width: 8, height: 12, channels: 3, pageHeight: 6 } })
        .gif()
        .toBuffer(),
      [200, 200, 200],
      1,
    ],
  ];
  for (const [name, encoded, colour, tolerance] of files) {
    const path = join(place, name);
    writeFileSync(path, await encoded);
    const { width, height, data } = await decodeImage(path, 3);
    assert.equal([width, height, data.length], [8, 6, 8 * 6 * 3], name);
    const worst = data.reduce((most, value, i) => Math.max(most, Math.abs(value - colour[i % 3]!)), 0);
    assert.ok(worst <= tolerance, `${name}: off by ${worst}, first pixel ${data.subarray(0, 3)}`);
  }
  assert.is((await imageInfo(join(place, 'grey.jpg'))).grey, true);
  assert.equal((await decodeImage(join(place, 'grey.jpg'), 1)).data.length, 8 * 6);
});

test('photographs are turned upright; the smallest and longest images are images', async () => {
  const place = join(folder, 'shapes');
  mkdirSync(place);
  const half = Buffer.from(Array.from({ length: 8 * 6 * 3 }, (_, i) => (i < 8 * 3 * 3 ? 255 : 0)));
  const turned = sharp(half, { raw: { width: 8, height: 6, channels: 3 } }).withMetadata({ orientation: 6 });
  writeFileSync(join(place, 'turned.png'), await turned.png().toBuffer());
  const { width, height, data } = await decodeImage(join(place, 'turned.png'), 3);
  assert.equal([width, height], [6, 8]);
  // Turned clockwise: what was the white top is the right half.
  assert.equal([data[0], data[15]], [0, 255]);
  assert.equal(await imageInfo(join(place, 'turned.png')), { width: 6, height: 8, grey: false });
  for (const [w, h] of [
    [1, 1],
    [3000, 1],
    [1, 3000],
  ] as const) {
    writeFileSync(join(place, 'x.png'), await png(w, h));
    assert.is((await decodeImage(join(place, 'x.png'), 3)).data.length, w * h * 3);
  }
});

test('damaged, disguised and huge images are refused with path and reason', async () => {
  const place = join(folder, 'damaged');
  const photo = await picture(64, 64, 3).jpeg().toBuffer();
  const drawn = await png(64, 64);
  const flipped = Buffer.from(drawn);
  flipped[2000]! ^= 0xff;
  const bomb = Buffer.from(drawn);
  bomb.writeUInt32BE(30_000, 16);
  bomb.writeUInt32BE(30_000, 20);
  const crc = (await import('node:zlib')).crc32(bomb.subarray(12, 29));
  bomb.writeUInt32BE(crc, 29);
  writeTree(place, {
    'cut.jpg': photo.subarray(0, photo.length / 2),
    'cut.png': drawn.subarray(0, drawn.length / 2),
    'flipped.png': flipped,
    'empty.png': '',
    'svg.png': '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>',
    'bomb.png': bomb,
  });
  const refuse = (name: string, pattern: RegExp) =>
    fails(() => decodeImage(join(place, name), 3), ExitCode.data, new RegExp(`damaged/${name}`), pattern);
  await refuse('cut.jpg', /premature end/);
  await refuse('cut.png', /read error/);
  await refuse('flipped.png', /read error/);
  await refuse('empty.png', /it is empty/);
  await refuse('svg.png', /no JPEG/);
  await refuse('bomb.png', /30000 x 30000 pixels, more than/);
  await fails(() => decodeImage(join(place, 'gone.png'), 3), ExitCode.noInput, /ENOENT/);
});

test('class folders, splits, order, and what is left out', async () => {
  const place = join(folder, 'classes');
  const image = await png(4, 4);
  writeTree(place, {
    'train/b/2.png': image,
    'train/b/10.PNG': image,
    'train/b/deep/er/1.png': image,
    'train/B/x.png': image,
    'train/.hidden/x.png': image,
    'train/b/.x.png': image,
    'train/b/notes.txt': 'x',
    'train/loose.png': image,
    'train/none/readme': 'x',
    'val/b/1.png': image,
    'test/x.png': image,
  });
  const notes: string[] = [];
  const { train, test } = await openDataset(place, { onNote: (note) => notes.push(note) });
  assert.equal(train.files, ['B/x.png', 'b/10.PNG', 'b/2.png', 'b/deep/er/1.png']);
  assert.equal(train.classes, ['B', 'b']);
  assert.equal([...train.labels!], [0, 1, 1, 1]);
  assert.equal(test!.files, ['b/1.png']);
  assert.equal([...test!.labels!], [1]);
  assert.equal(test!.classes, train.classes);
  assert.match(notes.join(' | '), /2 files that are no images.*1 image outside any class.*1 folder without images/);
  writeTree(place, { 'val/c/1.png': image });
  await fails(() => openDataset(place), ExitCode.data, /val\/c/);
  // What training would refuse check-data must not call good.
  await fails(() => checkData(place), ExitCode.data, /val\/c/);

  const flat = writeTree(join(folder, 'flat'), { 'b.png': image, 'a.png': image, 'x/y.png': image });
  const set = (await openDataset(flat)).train;
  assert.equal([set.files, set.labels, set.classes], [['a.png', 'b.png'], null, null]);
});

test('missing, empty and unreadable input is exit 66', async () => {
  await fails(() => openDataset(join(folder, 'nowhere')), ExitCode.noInput, /nowhere/);
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  await fails(() => openDataset(empty), ExitCode.noInput, /no images found/);
  await fails(
    () => openDataset(writeTree(join(folder, 'text'), { 'a/b.txt': '' })),
    ExitCode.noInput,
    /left out 1 file that is no image /,
  );
  await fails(() => openDataset(join(folder, 'text/a/b.txt')), ExitCode.noInput, /neither a folder/);
  if (process.getuid?.() === 0) return console.log('NOT RUN: a folder without permission: root may read all');
  chmodSync(empty, 0);
  await fails(() => openDataset(empty), ExitCode.noInput, /EACCES/);
  chmodSync(empty, 0o700);
});

test('a link to nowhere is an image that cannot be read; pipes are nothing', async () => {
  const place = writeTree(join(folder, 'links'), { 'a.png': await png(4, 4), 'b.png': await png(4, 4, 3, 2) });
  execFileSync('mkfifo', [join(place, 'pipe.png'), join(place, 'train-images-idx3-ubyte')]);
  assert.is((await openDataset(place)).train.count, 2);
  symlinkSync('nowhere.png', join(place, 'c.png'));
  await fails(() => openDataset(place), ExitCode.noInput, /links\/c\.png/, /ENOENT/);
  const { bad, images } = await checkData(place);
  assert.equal([images, bad.length], [2, 1]);
  assert.match(bad[0]?.file ?? '', /c\.png$/);
});

test('sets of one size are resident, grey ones keep one channel, mixed ones are read on demand', async () => {
  const grey = writeTree(join(folder, 'grey'), { 'a.png': await png(5, 4, 1, 1), 'b.png': await png(5, 4, 1, 2) });
  const one = (await openDataset(grey)).train;
  assert.equal([one.channels, one.resident?.width, one.resident?.height, one.resident?.pixels.length], [1, 5, 4, 40]);
  assert.equal([...(await one.read(1)).data], [...(await decodeImage(join(grey, 'b.png'), 1)).data]);
  writeTree(grey, { 'c.png': await png(5, 4, 3, 3) });
  const three = (await openDataset(grey)).train;
  assert.equal([three.channels, three.resident?.pixels.length], [3, 180]);
  const small = (await openDataset(grey, { residentBytes: 100 })).train;
  assert.is(small.resident, null);
  writeTree(grey, { 'd.png': await png(5, 5, 3, 4) });
  const mixed = (await openDataset(grey)).train;
  assert.is(mixed.resident, null);
  assert.is((await mixed.read(3)).height, 5);
  assert.equal([...(await mixed.read(1)).data], [...(await three.read(1)).data]);
});

test('bad images stop a set, or are skipped, up to a cap', async () => {
  const place = join(folder, 'bad');
  for (let i = 0; i < 20; i++) writeTree(place, { [`${i < 10 ? 'a' : 'b'}/${i}.png`]: await png(4, 4, 3, i + 1) });
  writeTree(place, { 'a/3.png': 'x' });
  await fails(() => openDataset(place), ExitCode.data, /a\/3\.png/, /on-bad-image skip/);
  for (const resident of [true, false]) {
    const found: BadImage[] = [];
    const options = {
      onBadImage: 'skip',
      onBad: (bad: BadImage) => found.push(bad),
      residentBytes: resident ? 1e6 : 0,
    } as const;
    const { train } = await openDataset(place, options);
    assert.is(train.count, resident ? 19 : 20);
    const image = await train.read(3);
    // Of a resident set it is gone; in a larger one the next of its class stands in, each time.
    assert.equal([...image.data], [...(await decodeImage(join(place, 'a/4.png'), 3)).data]);
    assert.equal([...(await train.read(3)).data], [...image.data]);
    assert.equal(
      found.map(({ file }) => file),
      ['a/3.png'],
    );
  }
  writeTree(place, { 'b/12.png': 'x', 'b/19.png': 'x' });
  await fails(() => openDataset(place, { onBadImage: 'skip' }), ExitCode.data, /too many/, /2 of 20 may be skipped/);
  const report = await checkData(place);
  assert.is(report.images, 17);
  assert.equal(
    [...report.classes!],
    [
      ['a', 9],
      ['b', 8],
    ],
  );
  assert.equal([...report.sizes], [['4 x 4', 17]]);
  assert.equal(
    report.bad.map(({ file }) => file),
    ['a/3.png', 'b/12.png', 'b/19.png'].map((file) => join(place, file)),
  );
  assert.equal([5, 40, 5000, 20_000, 1e6].map(badImageCap), [1, 4, 100, 200, 10_000]);

  writeTree(join(folder, 'one-bad'), { 'a/1.png': await png(4, 4), 'b/1.png': 'x', 'b/2.png': await png(5, 5) });
  const lazy = (await openDataset(join(folder, 'one-bad'), { onBadImage: 'skip' })).train;
  assert.is((await lazy.read(1)).width, 5);
  rmSync(join(folder, 'one-bad/a/1.png'));
  await fails(() => lazy.read(0), ExitCode.data);
});

test('too many open files are no reason to skip an image', async () => {
  const place = writeTree(join(folder, 'few-files'), {
    'a.png': await png(4, 4, 3, 1),
    'b.png': await png(4, 4, 3, 2),
  });
  const { readFile } = promises;
  for (const [code, count] of [
    ['EIO', 1],
    ['EMFILE', null],
  ] as const) {
    promises.readFile = ((path: string) =>
      String(path).endsWith('b.png')
        ? Promise.reject(Object.assign(new Error(code), { code }))
        : readFile(path)) as typeof readFile;
    syncBuiltinESMExports();
    try {
      const opened = openDataset(place, { onBadImage: 'skip' });
      if (count === null) await fails(() => opened, ExitCode.noInput, /b\.png/, /EMFILE/, /ulimit -n/);
      else assert.is((await opened).train.count, count);
    } finally {
      promises.readFile = readFile;
      syncBuiltinESMExports();
    }
  }
});

test('batches are decoded ahead, in order, within the bounds', async () => {
  let running = 0;
  let most = 0;
  const started: number[] = [];
  const read = async (index: number): Promise<DecodedImage> => {
    started.push(index);
    most = Math.max(most, ++running);
    // Later images are ready earlier: the order of delivery must not be theirs.
    await new Promise((resolve) => setTimeout(resolve, 8 - (index % 8)));
    running--;
    return { width: 1, height: 1, data: Uint8Array.of(index) };
  };
  const indices = (step: number) => (step < 6 ? [4 * step, 4 * step + 1, 4 * step + 2, 4 * step + 3] : null);
  const queue = new Prefetcher({ read }, indices, { firstStep: 2, ahead: 1, concurrency: 3 });
  for (let step = 2; step < 6; step++) {
    const batch = await queue.next();
    assert.is(batch?.step, step);
    assert.equal(
      batch!.images.map(({ data }) => data[0]),
      indices(step),
    );
    assert.ok(started.length <= 4 * (step - 2 + 3), `step ${step}: ${started.length} started`);
  }
  assert.is(await queue.next(), null);
  assert.is(most, 3);

  const closing = new Prefetcher({ read }, () => [1, 2, 3, 4], { concurrency: 2 });
  const waiting = closing.next();
  closing.close();
  assert.is(await waiting, null);
  assert.is(await closing.next(), null);
});

test('an error of the reader comes with its batch, not before and not unhandled', async () => {
  const read = async (index: number): Promise<DecodedImage> => {
    if (index === 3) throw new RangeError('image 3');
    return { width: 1, height: 1, data: Uint8Array.of(index) };
  };
  const queue = new Prefetcher({ read }, (step) => [2 * step, 2 * step + 1]);
  assert.is((await queue.next())?.step, 0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  let thrown: unknown;
  await queue.next().catch((error: unknown) => {
    thrown = error;
  });
  assert.instance(thrown, RangeError);
  assert.is(await queue.next(), null);
});

test.run();
