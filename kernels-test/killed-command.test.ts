import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runFolder } from '../src/cli/run-folder.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { openNodeGpu } from '../src/node.js';
import { numbers, temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { long, rounds, seed } from './rounds-support.js';
import { greySet, type Line, sameRun, settings, trainTiny } from './tiny-run.js';

/** The real command, killed with SIGKILL: without a device, and so many times in a short time, killed.test.ts does it. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
const gpu = await openNodeGpu({ quiet: true });
const next = numbers(seed);

const BATCH = 8;
const STEPS = long ? 240 : 60;
/** Seconds of training between two checkpoints. */
const INTERVAL = 0.25;

interface Start {
  /** How it ended: by our kill (null), or by itself with this code. */
  readonly code: number | null;
  /** Milliseconds until its first step; undefined if it did not come so far. */
  readonly began: number | undefined;
  readonly output: string;
}

/**
 * Starts the run, or goes on with it. Killed `patience` ms after its start, or with `training` so long after its first step;
 * not at all if that is infinite.
 */
async function start(out: string, patience: number, training: boolean): Promise<Start> {
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [
      ...[fileURLToPath(projectFile('bin/sop-gpu')), 'train', '--data', grey, '--out', out, '--batch-size', `${BATCH}`],
      ...['--steps', `${STEPS}`, '--set', `train.checkpoint_minutes=${INTERVAL / 60}`],
      ...settings.flatMap((setting) => ['--set', setting]),
      ...(existsSync(runFolder(out).config) ? ['--resume'] : []),
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let output = '';
  let began: number | undefined;
  const exit = once(child, 'exit');
  const killLater = (): void => {
    const timer = setTimeout(() => child.kill('SIGKILL'), patience);
    child.once('exit', () => clearTimeout(timer));
  };
  const listen = (chunk: Buffer): void => {
    output += String(chunk);
    if (began !== undefined || !/^step \d+\//m.test(output)) return;
    began = performance.now() - started;
    if (training && Number.isFinite(patience)) killLater();
  };
  for (const stream of [child.stdout, child.stderr]) stream.on('data', listen);
  if (!training) killLater();
  const [code, signal] = (await exit) as [number | null, string | null];
  assert.ok(signal === 'SIGKILL' || code === 0, `ended by itself, ${code} ${signal}: ${output}`);
  return { code, began, output };
}

/** Seconds of training that are gone: of the steps in the metrics after that of the newest checkpoint. */
function lost(out: string, step: number): { seconds: number; longest: number } {
  const { metrics } = runFolder(out);
  // What comes after the last line break was cut off by the kill.
  const lines = existsSync(metrics) ? readFileSync(metrics, 'utf8').split('\n').slice(0, -1) : [];
  const times = lines
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => !('knn' in line))
    .map((line) => ({ step: line.step, seconds: BATCH / Number(line['images_per_s']) }));
  const gone = times.filter((line) => line.step > step).reduce((sum, { seconds }) => sum + seconds, 0);
  return { seconds: gone, longest: Math.max(0, ...times.map(({ seconds }) => seconds)) };
}

test('killed at any moment: the newest checkpoint is whole, one interval is lost at most, the end has the same bits', async () => {
  const whole = join(folder, 'never-killed');
  await trainTiny(gpu, whole, { data: grey, length: { steps: `${STEPS}` } });
  let runs = 0;
  let [out, last] = [join(folder, 'run-0'), 0];
  let [startup, whileTraining] = [4000, 0];
  const finished = (): void => {
    sameRun(out, whole);
    runs++;
    [out, last] = [join(folder, `run-${runs}`), 0];
  };
  for (const kill of rounds('kills of the real command', 2, 200)) {
    // In turns while it trains, and at any moment of its start.
    const training = kill % 2 === 0;
    const { code, began, output } = await start(out, next(training ? 600 : startup), training);
    if (began !== undefined) {
      startup = 2 * began;
      whileTraining++;
    }
    if (code === 0) {
      finished();
      continue;
    }
    const loaded = await loadNewestValid(out);
    const step = loaded?.checkpoint.step ?? 0;
    assert.ok(step >= last, `kill ${kill}: step ${step} after ${last}: ${output}`);
    last = step;
    // A checkpoint is written beside the training, which waits for it where the next one is due: at worst the one that is
    // being written is lost with the interval before it. Whether one is due is asked between steps, of which two are under way.
    const { seconds, longest } = lost(out, step);
    const most = 2 * (INTERVAL + 2 * longest);
    assert.ok(seconds <= most, `kill ${kill}: ${seconds} s of training lost after step ${step}, at most ${most}`);
  }
  assert.ok(whileTraining > 0);
  await start(out, Number.POSITIVE_INFINITY, true);
  finished();
});

test.after(() => gpu.close());

test.run();
