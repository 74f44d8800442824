import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runFolder } from '../src/cli/run-folder.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { lockFolder, lockName } from '../src/data/node/run-lock.js';
import { openNodeGpu } from '../src/node.js';
import { fails, temporaryFolder, writeTree } from './data-support.js';
import { atStep, greySet, metricsOf, sameRun, trainTiny } from './tiny-run.js';

/** The folder of a run is moved, removed or replaced while the run goes on. */
const folder = temporaryFolder();
const gpu = await openNodeGpu({ quiet: true });
const data = greySet(join(folder, 'grey'), 40);
const whole = join(folder, 'whole');
const options = { data, checkpointSeconds: 0, length: { steps: '8' }, set: ['eval.every_epochs=1'] };
await trainTiny(gpu, whole, options);

/** Trains, and does something to the run's folder at its third step. Returns the warnings. */
async function disturbed(out: string, action: () => void, length = options.length): Promise<string[]> {
  const warnings: string[] = [];
  const disturb = atStep(3, action);
  const onLine = (line: string): void => {
    disturb(line);
    if (line.includes('warning')) warnings.push(line);
  };
  await trainTiny(gpu, out, { ...options, length, onLine });
  return warnings;
}

for (const [what, action] of [
  ['moved', (out: string) => renameSync(out, `${out}-elsewhere`)],
  ['removed', (out: string) => rmSync(out, { recursive: true })],
  ['emptied', (out: string) => readdirSync(out).map((name) => rmSync(join(out, name), { recursive: true }))],
  ['robbed of its metrics', (out: string) => rmSync(runFolder(out).metrics)],
] as const) {
  test(`a folder that is ${what} is made again: the run ends whole, with the same numbers, and can be resumed`, async () => {
    const out = join(folder, what);
    const warnings = await disturbed(out, () => action(out));
    assert.match(warnings.at(-1) ?? '', /moved or removed; the run goes on there/);
    sameRun(out, whole);
    assert.ok(existsSync(runFolder(out).exported));
    await trainTiny(gpu, out, { ...options, resume: true });
    sameRun(out, whole);
  });
}

test('what was moved away stays as it was', async () => {
  const elsewhere = join(folder, 'moved-elsewhere');
  const step = (await loadNewestValid(elsewhere))?.checkpoint.step ?? 0;
  assert.ok(step >= 1 && step <= 3, `step ${step}`);
  assert.is(metricsOf(elsewhere).stepLines.length >= step, true);
});

test('another run that began in its place is left alone', async () => {
  const out = join(folder, 'replaced');
  const other = { 'config.yaml': 'of another', 'environment.json': '{"started":"later"}', 'metrics.jsonl': '' };
  const replace = (): void => {
    renameSync(out, `${out}-elsewhere`);
    writeTree(out, other);
    mkdirSync(join(out, 'checkpoints'));
  };
  await fails(
    () => disturbed(out, replace, { steps: '20' }),
    74,
    /another run is there now/,
    /3 of 3 checkpoints in a row/,
  );
  assert.equal(readdirSync(join(out, 'checkpoints')), []);
  assert.equal(readdirSync(out).sort(), ['checkpoints', ...Object.keys(other)].sort());
  assert.ok((await loadNewestValid(`${out}-elsewhere`))!.checkpoint.step >= 1);
});

test('a lock that went away is taken again; one of another process is neither taken nor removed', async () => {
  const run = join(folder, 'locked');
  const path = join(run, lockName);
  const lock = await lockFolder(run);
  await lock.renew();
  rmSync(run, { recursive: true });
  await lock.renew();
  await fails(() => lockFolder(run), 73, /uses it/);
  const other = '{"pid":4,"host":"another-host"}';
  writeFileSync(path, other);
  await fails(() => lock.renew(), 73, /another-host/);
  lock.release();
  assert.equal(readdirSync(run), [lockName]);
});

test.run();
