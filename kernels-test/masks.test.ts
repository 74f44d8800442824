import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NO_ROW } from '../src/ops/gather_rows.js';
import { Draws } from '../src/rng.js';
import { drawMask, type Grid, maskInputs, maxMasked } from '../src/sop/masks.js';

const draws = (item: number) => new Draws({ seed: 11, purpose: 'mask', item });
const count = (mask: ArrayLike<number>): number => Array.from(mask).reduce((sum, masked) => sum + masked, 0);
const grids: readonly Grid[] = [
  [14, 14],
  [4, 4],
  [7, 5],
  [2, 3],
  [1, 1],
];

test('random masks cover exactly floor(ratio n), every patch equally often', () => {
  const covered = new Float64Array(35);
  for (let item = 0; item < 3000; item++) {
    const mask = drawMask(draws(item), { kind: 'random', ratio: 0.7, ratioVar: 0 }, [7, 5]);
    assert.is(count(mask), 24);
    mask.forEach((masked, i) => {
      covered[i]! += masked;
    });
  }
  // Deviation of a patch's frequency: sqrt(p (1 - p) / 3000) = 0.0085; five of them.
  for (const times of covered) assert.ok(Math.abs(times / 3000 - 24 / 35) < 0.043, `${times / 3000}`);
});

test('block masks never exceed floor(ratio n), come near it, and are made of blocks', () => {
  for (const grid of grids) {
    for (const ratio of [0, 0.1, 0.3, 0.6, 0.99]) {
      const most = maxMasked({ ratio, ratioVar: 0 }, grid);
      assert.is(most, Math.floor(ratio * grid[0] * grid[1]));
      for (let item = 0; item < 50; item++)
        assert.ok(count(drawMask(draws(item), { kind: 'block', ratio, ratioVar: 0 }, grid)) <= most);
    }
  }
  let total = 0;
  let neighbours = 0;
  for (let item = 0; item < 300; item++) {
    const mask = drawMask(draws(item), { kind: 'block', ratio: 0.3, ratioVar: 0 }, [14, 14]);
    total += count(mask);
    for (let i = 0; i < 195; i++) if (i % 14 < 13) neighbours += mask[i]! * mask[i + 1]!;
  }
  // 58 of 196 are allowed, and no block of less than 16 begins below that: some masks stop short.
  assert.ok(total / 300 > 45, `mean ${total / 300}`);
  // Of scattered masks 30 % of masked patches have a masked right neighbour; of blocks most.
  assert.ok(neighbours / total > 0.6, `${neighbours / total}`);
});

test('the ratio of an image varies within its bounds', () => {
  const options = { kind: 'random', ratio: 0.3, ratioVar: 0.2 } as const;
  const counts = Array.from({ length: 2000 }, (_, item) => count(drawMask(draws(item), options, [10, 10])));
  assert.is(Math.min(...counts), 10);
  assert.is(Math.max(...counts), 49);
  assert.is(maxMasked(options, [10, 10]), 50);
  // Uniform over 10 ... 49: mean 29.5, deviation of the mean 0.26.
  assert.ok(Math.abs(counts.reduce((sum, n) => sum + n, 0) / 2000 - 29.5) < 1.3);
  assert.is(maxMasked({ ratio: 0.9, ratioVar: 0.5 }, [3, 3]), 9);
});

test('the same draws give the same mask, others another', () => {
  const options = { kind: 'block', ratio: 0.3, ratioVar: 0.1 } as const;
  assert.equal(drawMask(draws(1), options, [14, 14]), drawMask(draws(1), options, [14, 14]));
  assert.not.equal(drawMask(draws(1), options, [14, 14]), drawMask(draws(2), options, [14, 14]));
});

// Two images of three patches: view 0 of image 0 has none, of image 1 two; view 1 of image 0 one, of image 1 three.
const masks = Uint8Array.of(0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1);
const given = { masks, patchRows: [2, 0], batch: 2, patches: 3 };

test('training: partners in the order of the masked patches, then the patches for E_P', () => {
  const lists = maskInputs({ ...given, maskedPatches: 8, layout: 'train' });
  assert.equal([...lists.mask], [...masks]);
  const rows = [5, 7, 10, 13, 14, 15, NO_ROW, NO_ROW];
  assert.equal([...lists.maskedRows], rows);
  assert.equal([...lists.teacherRows], [...rows, 2 * 4 + 3, 3 * 4 + 1]);
  assert.equal(
    [...lists.partners],
    [0, 1, 2, 3, 4, 5].flatMap((row) => [row, NO_ROW]).concat([NO_ROW, NO_ROW, NO_ROW, NO_ROW]),
  );
  const expected = [1 / 8, 1 / 8, 1 / 4, 1 / 12, 1 / 12, 1 / 12, 0, 0];
  assert.equal([...lists.weights], [...Float32Array.from(expected)]);
  assert.equal([...lists.insertedRows], [8, 9]);
});

test('debug: every patch of the teacher in order', () => {
  const lists = maskInputs({ ...given, maskedPatches: 6, layout: 'all' });
  assert.equal([...lists.teacherRows], [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]);
  assert.equal(
    [...lists.partners].filter((_, i) => i % 2 === 0),
    [3, 5, 7, 9, 10, 11],
  );
  assert.equal([...lists.insertedRows], [2 * 3 + 2, 3 * 3 + 0]);
});

test('no patch masked: all padding, no NaN', () => {
  const lists = maskInputs({ ...given, masks: new Uint8Array(12), maskedPatches: 1, layout: 'all' });
  assert.equal([...lists.maskedRows, ...lists.partners], [NO_ROW, NO_ROW, NO_ROW]);
  assert.equal([...lists.weights], [0]);
});

test('more masked patches than the list holds are refused', () => {
  assert.throws(() => maskInputs({ ...given, maskedPatches: 5, layout: 'train' }), /more than 5/);
});

test.run();
