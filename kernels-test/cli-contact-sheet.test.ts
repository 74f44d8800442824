import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Canvas, letterHeight, textWidth } from '../src/cli/canvas.js';
import { type ContactSheet, contactSheet, drawContactSheet } from '../src/cli/contact-sheet.js';
import { type ImageSet, residentSet } from '../src/data/dataset.js';
import { fails, temporaryFolder } from './data-support.js';

const folder = temporaryFolder();
const green = [35, 148, 88];
const red = [214, 64, 69];

/** Images of one colour each, told apart by it. */
function set(name: string, side: number, channels: 1 | 3, labels: number[] | null): ImageSet {
  const count = 6;
  const pixels = new Uint8Array(count * side * side * channels);
  for (let i = 0; i < pixels.length; i++)
    pixels[i] = 40 + 30 * Math.floor(i / (side * side * channels)) + (i % channels);
  const classes = labels && ['cat', 'dog'];
  return residentSet({
    name,
    channels,
    width: side,
    height: side,
    pixels,
    labels: labels && Int32Array.from(labels),
    classes,
  });
}

function count(canvas: Canvas, colour: readonly number[]): number {
  let found = 0;
  for (let at = 0; at < canvas.pixels.length; at += 3) {
    if (colour.every((value, c) => canvas.pixels[at + c] === value)) found++;
  }
  return found;
}

function sheet(side: number, channels: 1 | 3, labels: number[] | null): ContactSheet {
  const images = set('images', side, channels, labels);
  const blocks = [
    {
      label: 'before',
      neighbours: [
        [0, 1],
        [3, 4],
      ],
    },
    {
      label: 'after',
      neighbours: [
        [2, 2],
        [5, 5],
      ],
    },
  ];
  return { title: 'Neighbours', queries: images, rows: [0, 5], gallery: images, blocks };
}

test('right neighbours are framed green, wrong ones red, each image is enlarged whole', async () => {
  // Query 0 is a cat, 5 a dog; of the neighbours 0, 1 | 3, 4 | 2, 2 | 5, 5 only the pair 3, 4 is half wrong.
  const canvas = await drawContactSheet(sheet(28, 1, [0, 0, 0, 0, 1, 1]));
  const side = 84;
  const frame = (side + 8) ** 2 - side ** 2;
  const corner = (16 * 17) / 2;
  assert.is(count(canvas, green), 7 * frame);
  assert.is(count(canvas, red), frame + corner);
  // Image 2 is drawn twice, as wide as three times its pixels.
  assert.is(count(canvas, [100, 100, 100]), 2 * side * side);
});

test('colour is kept, and without labels nothing is called right or wrong', async () => {
  const canvas = await drawContactSheet(sheet(64, 3, null));
  assert.is(count(canvas, green) + count(canvas, red), 0);
  assert.is(count(canvas, [100, 101, 102]), 2 * 64 * 64);
});

test('large images are reduced', async () => {
  const canvas = await drawContactSheet(sheet(200, 3, [0, 1, 0, 1, 0, 1]));
  assert.is(count(canvas, [130, 131, 132]), 84 * 84);
});

test('the file is a PNG of the drawn size; a place that cannot be written is 73', async () => {
  const file = join(folder, 'sheet.png');
  const wanted = sheet(28, 1, [0, 0, 0, 0, 1, 1]);
  await contactSheet(wanted, file);
  const { width, height } = await drawContactSheet(wanted);
  const { data, info } = await sharp(readFileSync(file)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  assert.equal([info.width, info.height, info.channels], [width, height, 3]);
  assert.ok(data.equals((await drawContactSheet(wanted)).pixels));
  await fails(() => contactSheet(wanted, join(folder, 'none', 'sheet.png')), 73, /sheet\.png/);
});

test('letters are drawn without fonts, as wide as they say', () => {
  const text = 'Ankle boot, 7.5 % (gq)';
  const width = textWidth(text, 2);
  const canvas = new Canvas(width, 2 * (letterHeight + 1), [255, 255, 255]);
  canvas.text(0, 0, text, 2, [0, 0, 0]);
  const inked = Array.from({ length: width }, (_, x) =>
    Array.from({ length: canvas.height }, (_, y) => canvas.pixels[(y * width + x) * 3] === 0).includes(true),
  );
  assert.ok(inked[0] && inked[width - 1]);
  assert.is(textWidth('', 2), 0);
  assert.is(textWidth('é', 1), textWidth('?', 1));
  // Every letter has its own shape.
  const shapes = Array.from({ length: 94 }, (_, i) => {
    const one = new Canvas(8, 8, [255, 255, 255]);
    one.text(0, 0, String.fromCharCode(0x21 + i), 1, [0, 0, 0]);
    return one.pixels.join('');
  });
  assert.is(new Set(shapes).size, 94);
});

test.run();
