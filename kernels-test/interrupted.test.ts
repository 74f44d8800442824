import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { AwakeClock } from '../src/cli/awake-clock.js';
import { runFolder } from '../src/cli/run-folder.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { lockName } from '../src/data/node/run-lock.js';
import { numbers, temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { seed } from './rounds-support.js';
import { greySet, metricsOf, settings } from './tiny-run.js';

/** The real command under signals: while it starts, while it compiles, in its steps. */
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

/**
 * Does the process handle signals yet? Before that it is Node alone, which ends by SIGINT and SIGTERM after restoring the
 * terminal: so it catches these two from its start on, but not SIGHUP. Linux tells what a process catches.
 */
function handlesSignals(pid: number | undefined): boolean {
  const [, caught] = /^SigCgt:\s*([0-9a-f]+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return (BigInt(`0x${caught}`) & (1n << BigInt(constants.signals.SIGHUP - 1))) !== 0n;
}

const next = numbers(seed);
const pixels = ['eval', 'knn', '--data', grey, '--pixels'];
for (const words of [
  ['train', '--out', out, ...fresh],
  ['train', '--supervise', '--out', out, ...fresh],
  pixels,
  ['bench', 'matmul'],
  ['tune', '--preset', 'quickstart'],
  ['quickstart'],
]) {
  const wanted = next(2) === 0 ? 'SIGINT' : 'SIGTERM';
  const delay = next(2000);
  test(`${wanted} ${delay} ms after the start of ${words.slice(0, 2).join(' ')}: its exit code, no line, nothing left`, async () => {
    if (process.platform !== 'linux') return console.log('NOT RUN: there is no /proc here');
    const child = spawn(process.execPath, [program, ...words], { stdio: ['ignore', 'pipe', 'pipe'], cwd: folder });
    let [printed, err] = ['', ''];
    child.stdout.on('data', (chunk) => {
      printed += String(chunk);
    });
    child.stderr.on('data', (chunk) => {
      err += String(chunk);
    });
    const end = once(child, 'close');
    while (!handlesSignals(child.pid)) await sleep(2);
    await sleep(delay);
    child.kill(wanted);
    const [code, signal] = await end;
    // All was printed before the signal came: it found the process at its end, or Node that had given its handlers back.
    const done = words === pixels && /^best .*\n$/m.test(printed);
    if (done && (code === 0 || signal === wanted)) return;
    assert.equal([code, err], [wanted === 'SIGINT' ? 130 : 143, '']);
    assert.is(existsSync(join(out, lockName)), false);
  });
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

test('time in which a run is stopped is none of its minutes: it goes on where it was in its schedules', async () => {
  const place = join(folder, 'by-time');
  const minutes = 0.1;
  const words = fresh.map((word) => (word === '--steps' ? '--minutes' : word === '1000000' ? `${minutes}` : word));
  const child = spawn(process.execPath, [program, 'train', '--out', place, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 150_000,
    killSignal: 'SIGKILL',
  });
  let [printed, stopped] = ['', 0];
  child.stdout.on('data', (chunk) => {
    printed += String(chunk);
    if (stopped > 0 || !printed.includes('\nstep 2 ')) return;
    stopped = performance.now();
    // A shell stops the whole group; here the process that trains may be a child of the one that was started.
    process.kill(trainingProcess(place), 'SIGSTOP');
    setTimeout(() => process.kill(trainingProcess(place), 'SIGCONT'), 9000);
  });
  const [code] = await once(child, 'exit');
  assert.is(code, 0);
  assert.ok(stopped > 0, printed);
  const { stepLines } = metricsOf(place);
  const seconds = stepLines.map((line) => 8 / Number(line['images_per_s']));
  const total = seconds.reduce((sum, one) => sum + one, 0);
  // Of the 9 s half a second and what the step itself took are left.
  assert.ok(Math.max(...seconds) < 5, `a step of ${Math.max(...seconds)} s`);
  assert.ok(total >= 60 * minutes && total < 60 * minutes + 5, `${total} s`);
  // The teacher's momentum follows the time: without a jump, as there are many steps.
  const momenta = stepLines.map((line) => Number(line['momentum']));
  assert.ok(momenta.length > 10, `${momenta.length} steps`);
  momenta.slice(1).forEach((one, i) => {
    assert.ok(one - momenta[i]! < 0.4 * (1 - momenta[0]!), `${momenta[i]} to ${one}`);
  });
});

test('a clock leaves out what passed while nobody looked', () => {
  let time = 0;
  const clock = new AwakeClock(() => time);
  const at = (seconds: number): number => {
    time = 1000 * seconds;
    return clock.now() / 1000;
  };
  assert.equal([at(0.5), at(1), at(5), at(3605), at(3606), at(3606.5)], [0.5, 1, 5, 5.5, 6.5, 7]);
  clock.close();
});

/** The number of the process that holds the lock of a run. */
function trainingProcess(run: string): number {
  return Number((JSON.parse(readFileSync(join(run, lockName), 'utf8')) as { pid: number }).pid);
}

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
