import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ImageSet } from '../src/data/dataset.js';
import { openNodeGpu } from '../src/node.js';
import { numbers, picture, temporaryFolder, writeTree } from './data-support.js';
import { long, rounds, seed } from './rounds-support.js';
import { soak, soakFaults } from './soak.js';
import { greySet, interruptAt, metricsOf, sameRun, tinySetup, train, trainTiny } from './tiny-run.js';

/** What only shows in long runs or after many stops; the longest is `npm run soak`. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
const gpu = await openNodeGpu({ quiet: true });
const next = numbers(seed);

// The short run leaves accumulation to train.test.ts.
for (const accumulate of long ? [1, 2] : [1]) {
  test(`stopped at drawn points, in mid-epoch and at its border: the same bits (accumulate ${accumulate})`, async () => {
    const options = { data: grey, length: { steps: '26' }, set: [`optim.accumulate=${accumulate}`] };
    const whole = join(folder, `whole-${accumulate}`);
    await trainTiny(gpu, whole, options);
    // The borders of epochs first, then anywhere.
    const borders = [12 / accumulate, 24 / accumulate];
    for (const i of rounds(`resumes with accumulate ${accumulate}`, 1, borders.length + 5)) {
      const point = borders[i] ?? 1 + next(24);
      const out = join(folder, `stopped-${accumulate}-${i}`);
      const { stoppedBy } = await trainTiny(gpu, out, { ...options, onLine: interruptAt(point) });
      assert.is(stoppedBy, 130, `step ${point}`);
      await trainTiny(gpu, out, { ...options, resume: true });
      sameRun(out, whole);
    }
    for (const i of rounds(`repetitions with accumulate ${accumulate}`, 0, 1)) {
      const again = join(folder, `again-${accumulate}-${i}`);
      await trainTiny(gpu, again, options);
      sameRun(again, whole);
    }
  });
}

/** The set, each of its images decoded after a drawn time: in another order than they are asked for, which `order` tells. */
function delayed(set: ImageSet, random: (below: number) => number, order: number[]): ImageSet {
  return {
    ...set,
    read: async (index) => {
      await sleep(random(12));
      const image = await set.read(index);
      order.push(index);
      return image;
    },
  };
}

test('images decoded in another order: the same bits', async () => {
  const files: Record<string, Buffer> = {};
  for (let i = 0; i < 24; i++)
    files[`${i % 3}/${i}.png`] = await picture(30 + i, 40, 3, i + 1)
      .png()
      .toBuffer();
  const data = writeTree(join(folder, 'colour'), files);
  const outs: string[] = [];
  const orders: number[][] = [];
  for (const i of rounds('orders in which images were decoded', 2, 6)) {
    const out = join(folder, `order-${i}`);
    const order: number[] = [];
    const setup = await tinySetup(gpu, out, { data, length: { steps: '6' } });
    const slow = delayed(setup.splits.train, numbers(seed + i), order);
    await train({ ...setup, splits: { ...setup.splits, train: slow } });
    assert.ok(order.length >= 6 * 8, 'the images were not read one by one');
    for (const other of orders) assert.not.equal(order, other, 'the order was the same');
    orders.push(order);
    outs.push(out);
    if (i > 0) sameRun(out, outs[0]!);
  }
});

test('a run of many steps: device memory stays the same, no line of the metrics is missing', async () => {
  for (const round of rounds('runs of 5,000 steps', 1, 1)) {
    const report = await soak(gpu, join(folder, `soak-${round}`), long ? 5_000 : 200);
    // Speed is for `npm run soak` to judge, on a machine that does nothing else; memory of the host shows in long runs alone.
    const faults = soakFaults({ ...report, slowdown: 1, ...(!long && { bytesPerStep: 0 }) });
    assert.equal(faults, [], JSON.stringify(report));
    assert.is(metricsOf(join(folder, `soak-${round}`, 'run')).stepLines.length, report.steps);
  }
});

test.after(() => gpu.close());

test.run();
