import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { openNodeGpu } from '../src/node.js';
import { numbers, temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { soak, soakFaults } from './soak.js';
import { greySet, interruptAt, metricsOf, sameRun, settings, trainTiny } from './tiny-run.js';

/** What only shows in long runs or after many stops; short here, long in `npm run test:long` and `npm run soak`. */
const folder = temporaryFolder();
const long = Boolean(process.env['SOP_GPU_LONG']);
const grey = greySet(join(folder, 'grey'), 96);
const gpu = await openNodeGpu({ quiet: true });
const next = numbers(long ? 12 : 11);

// The short run leaves accumulation to train.test.ts.
for (const accumulate of long ? [1, 2] : [1]) {
  test(`stopped at drawn points, in mid-epoch and at its border: the same bits (accumulate ${accumulate})`, async () => {
    const options = { data: grey, length: { steps: '26' }, set: [`optim.accumulate=${accumulate}`] };
    const whole = join(folder, `whole-${accumulate}`);
    await trainTiny(gpu, whole, options);
    const points = long
      ? [...Array.from({ length: 5 }, () => 1 + next(24)), 12 / accumulate, 24 / accumulate]
      : [12 / accumulate];
    for (const [i, point] of points.entries()) {
      const out = join(folder, `stopped-${accumulate}-${i}`);
      const { stoppedBy } = await trainTiny(gpu, out, { ...options, onLine: interruptAt(point) });
      assert.is(stoppedBy, 130, `step ${point}`);
      await trainTiny(gpu, out, { ...options, resume: true });
      sameRun(out, whole);
    }
    // And the same seed once more, without a stop: the order in which images were decoded does not matter.
    if (!long) return;
    const again = join(folder, `again-${accumulate}`);
    await trainTiny(gpu, again, options);
    sameRun(again, whole);
  });
}

test('the real command, killed with SIGKILL: it goes on from the newest checkpoint and ends with the same bits', async () => {
  const [steps, out] = ['60', join(folder, 'killed')];
  const command = (...more: string[]): ChildProcess =>
    spawn(
      process.execPath,
      [
        ...[fileURLToPath(projectFile('bin/sop-gpu')), 'train', '--data', grey, '--out', out, '--batch-size', '8'],
        ...['--steps', steps, ...settings.flatMap((setting) => ['--set', setting]), ...more],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
  for (let kill = 0; kill < (long ? 200 : 1); kill++) {
    const child = command(...(kill > 0 ? ['--resume'] : []));
    const exit = once(child, 'exit');
    let output = '';
    await new Promise<void>((resolve) => {
      child.stdout?.on('data', (chunk: Buffer) => {
        output += String(chunk);
        // Once it trains, in the short run; at any moment of its life in the long one.
        if (/^step \d+\//m.test(output)) setTimeout(resolve, next(40));
      });
      if (long) setTimeout(resolve, next(6000));
      child.once('exit', () => resolve());
    });
    child.kill('SIGKILL');
    const [code, signal] = await exit;
    assert.ok(signal === 'SIGKILL' || code === 0, `${code} ${signal}: ${output}`);
    const loaded = await loadNewestValid(out);
    assert.ok(loaded || kill === 0 || long, 'no checkpoint');
  }
  await trainTiny(gpu, out, { data: grey, length: { steps }, resume: true });
  const whole = join(folder, 'never-killed');
  await trainTiny(gpu, whole, { data: grey, length: { steps } });
  sameRun(out, whole);
});

test('a run of many steps: device memory stays the same, no line of the metrics is missing', async () => {
  const report = await soak(gpu, join(folder, 'soak'), long ? 5_000 : 200);
  // Memory of the host and speed show in long runs alone: npm run soak.
  const faults = soakFaults(long ? report : { ...report, bytesPerStep: 0, slowdown: 1 });
  assert.equal(faults, [], JSON.stringify(report));
  assert.is(metricsOf(join(folder, 'soak', 'run')).stepLines.length, report.steps);
});

test.run();
