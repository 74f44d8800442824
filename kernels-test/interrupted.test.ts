import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runFolder } from '../src/cli/run-folder.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { lockName } from '../src/data/node/run-lock.js';
import { temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { greySet, metricsOf, settings } from './tiny-run.js';

/** The real command under signals: while it compiles, in its steps. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
const program = fileURLToPath(projectFile('bin/sop-gpu'));
const out = join(folder, 'run');
const fresh = ['--data', grey, '--batch-size', '8', '--steps', '1000000', ...settings.flatMap((one) => ['--set', one])];

/** Trains, and sends the signal when a line of stdout begins like that. */
async function signalled(words: readonly string[], line: string, wanted: NodeJS.Signals) {
  const stdio = ['ignore', 'pipe', 'pipe'] as const;
  const child = spawn(process.execPath, [program, 'train', '--out', out, ...words], {
    stdio: [...stdio],
    timeout: 150_000,
    killSignal: 'SIGKILL',
  });
  let [printed, err, sent] = ['', '', 0];
  child.stderr?.on('data', (chunk) => {
    err += String(chunk);
  });
  child.stdout?.on('data', (chunk) => {
    printed += String(chunk);
    if (sent > 0 || !`\n${printed}`.includes(`\n${line}`)) return;
    sent = performance.now();
    child.kill(wanted);
  });
  const [code, signal] = await once(child, 'exit');
  assert.is(signal, null, `ended by ${signal}`);
  assert.ok(sent > 0, `"${line}" never came: ${err}`);
  return { code, errors: err, last: printed.trimEnd().split('\n').at(-1), seconds: (performance.now() - sent) / 1000 };
}

test('SIGTERM while shaders are compiled: 143 at once, one line, and the folder takes a run', async () => {
  const { code, errors, last, seconds } = await signalled(fresh, 'run ', 'SIGTERM');
  assert.equal([code, errors, last], [143, '', 'SIGTERM: nothing was trained, nothing to save']);
  assert.ok(seconds < 20, `${seconds} s`);
  assert.is(existsSync(join(out, lockName)), false);
  assert.is(existsSync(runFolder(out).config), false);
});

test('SIGINT in the steps: this one is finished and saved, 130', async () => {
  const { code, errors } = await signalled(fresh, 'step 3/', 'SIGINT');
  assert.equal([code, errors], [130, '']);
  await wholeUpTo(3);
});

test('SIGTERM as soon as a resumed run goes on: nothing is lost or doubled, 143', async () => {
  const { code, errors, last } = await signalled(['--resume'], 'step ', 'SIGTERM');
  assert.equal([code, errors], [143, '']);
  assert.is(last, `stopped after step ${await wholeUpTo(4)}; go on with --resume`);
});

/** The step of the checkpoint, of which the metrics have a line for each up to it. */
async function wholeUpTo(least: number): Promise<number> {
  const step = (await loadNewestValid(out))?.checkpoint.step ?? 0;
  assert.ok(step >= least, `a checkpoint of step ${step}`);
  assert.equal(
    metricsOf(out).stepLines.map((line) => line.step),
    Array.from({ length: step }, (_, i) => i + 1),
  );
  return step;
}

test.run();
