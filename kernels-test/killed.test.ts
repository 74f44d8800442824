import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MetricsFile } from '../src/cli/metrics-file.js';
import { Printer } from '../src/cli/printer.js';
import { superviseTraining } from '../src/cli/supervise.js';
import { loadNewestValid, removeStaleTemporaries } from '../src/data/node/checkpoints.js';
import { lockFolder } from '../src/data/node/run-lock.js';
import { SopError } from '../src/errors.js';
import { fails, numbers, temporaryFolder } from './data-support.js';
import { rounds, seed } from './rounds-support.js';

/**
 * Processes that die. The one that is killed here over and over keeps its files as a training run does, with the same
 * code, but needs no device: so it can die often. The real command: killed-command.test.ts.
 */
const folder = temporaryFolder();
const own = (path: string): string => JSON.stringify(pathToFileURL(fileURLToPath(new URL(path, import.meta.url))).href);

/** Numbers of a checkpoint that tell which step they are of: all equal to it. */
const ELEMENTS = 50_000;

/** A run without a device: lock, repair, then steps; each appends its line, every third is saved. */
const program = join(folder, 'run.mjs');
writeFileSync(
  program,
  `
import { MetricsFile } from ${own('../src/cli/metrics-file.js')};
import { loadNewestValid, removeStaleTemporaries, saveCheckpoint } from ${own('../src/data/node/checkpoints.js')};
import { lockFolder } from ${own('../src/data/node/run-lock.js')};
const out = process.argv[2];
await lockFolder(out);
await removeStaleTemporaries(out);
const loaded = await loadNewestValid(out);
let step = loaded?.checkpoint.step ?? 0;
const metrics = MetricsFile.open(out + '/metrics.jsonl', step);
process.send?.('begun');
let writing = Promise.resolve();
for (;;) {
  step++;
  metrics.append({ step, loss: 1 / step });
  if (step % 3 === 0) {
    await writing;
    metrics.sync();
    const data = new Float32Array(${ELEMENTS}).fill(step);
    writing = saveCheckpoint(out, step % 6 === 0 ? 'best' : 'last', step, [{ name: 'w', dtype: 'F32', shape: [${ELEMENTS}], data }]);
  }
  process.send?.(step);
  await new Promise((resolve) => setImmediate(resolve));
}
`,
);

test('killed at any moment: the newest checkpoint is whole, no line of metrics is doubled or missing', async () => {
  const out = join(folder, 'killed');
  mkdirSync(out);
  const next = numbers(seed + 1);
  let last = 0;
  let progressed = 0;
  for (const _ of rounds('kills of a run without a device', 12, 200)) {
    const child = spawn(process.execPath, [program, out], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const exit = once(child, 'exit');
    // Most often after some steps, however slow this machine is; sometimes while it starts and repairs.
    for (let messages = next(5) > 0 ? 1 + next(20) : 0; messages > 0; messages--) await once(child, 'message');
    await new Promise((resolve) => setTimeout(resolve, next(30)));
    child.kill('SIGKILL');
    assert.equal(await exit, [null, 'SIGKILL'], 'it ended by itself');
    const loaded = await loadNewestValid(out);
    const step = loaded?.checkpoint.step ?? 0;
    assert.ok(step >= last, `step ${step} after ${last}`);
    const data = loaded?.checkpoint.tensors.get('w')?.data;
    assert.ok(!data || data.every((value) => value === step), `the checkpoint of step ${step} holds other numbers`);
    if (step > last) progressed++;
    last = step;
    // As a resume finds it: the lines of all steps of the checkpoint, each once.
    MetricsFile.open(join(out, 'metrics.jsonl'), step).close();
    const steps = readFileSync(join(out, 'metrics.jsonl'), 'utf8').split('\n').slice(0, -1);
    assert.equal(
      steps.map((line) => JSON.parse(line).step),
      Array.from({ length: step }, (_, i) => i + 1),
    );
  }
  assert.ok(progressed > 2, `only ${progressed} starts made progress`);
  const lock = await lockFolder(out);
  assert.match(lock.note ?? '', /took over the lock of process \d+ on \S+, which is gone/);
  await removeStaleTemporaries(out);
  assert.equal(
    readdirSync(join(out, 'checkpoints')).filter((name) => !/^(last|best)\.safetensors$/.test(name)),
    [],
  );
  lock.release();
});

test('a run folder in use is refused with pid and host', async () => {
  const out = join(folder, 'used');
  mkdirSync(out);
  const child = spawn(process.execPath, [program, out], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exit = once(child, 'exit');
  await once(child, 'message');
  await fails(() => lockFolder(out), 73, new RegExp(`process ${child.pid} on \\S+ uses it`));
  child.kill('SIGKILL');
  await exit;
});

/** Takes the place of the command under `--supervise`: saves one more step at each start, then ends as it is told. */
async function supervised(name: string, endings: readonly string[]) {
  const out = join(folder, name);
  mkdirSync(out);
  const script = join(folder, `${name}.mjs`);
  writeFileSync(
    script,
    `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { saveCheckpoint } from ${own('../src/data/node/checkpoints.js')};
const [out, log] = [${JSON.stringify(out)}, ${JSON.stringify(join(out, 'starts'))}];
appendFileSync(log, process.argv.slice(2).join(' ') + '\\n');
const start = readFileSync(log, 'utf8').trim().split('\\n').length;
const ending = ${JSON.stringify(endings)}[start - 1];
if (!ending.startsWith('stuck ')) await saveCheckpoint(out, 'last', start, []);
const [how] = ending.split(' ').slice(-1);
if (how.startsWith('SIG')) process.kill(process.pid, how);
else process.exit(Number(how));
setInterval(() => {}, 1000);
`,
  );
  const { argv } = process;
  const warnings: string[] = [];
  const printer = new Printer(true, process.stdout, { write: (text: string) => warnings.push(text) } as never);
  process.argv = [argv[0]!, script, 'train', '--supervise', '--init', 'x', '--out', out];
  try {
    const outcome = await superviseTraining(out, printer).catch((error: unknown) => error);
    return { outcome, warnings, starts: readFileSync(join(out, 'starts'), 'utf8').trim().split('\n') };
  } finally {
    process.argv = argv;
  }
}

test('--supervise starts training again where it died by a signal or lost its device, from its last checkpoint', async () => {
  const { outcome, warnings, starts } = await supervised('crashed', ['SIGSEGV', '75', 'SIGKILL', '0']);
  assert.equal(outcome, {});
  const out = join(folder, 'crashed');
  assert.equal(starts, [`train --init x --out ${out}`, ...new Array(3).fill(`train --out ${out} --resume`)]);
  assert.is(warnings.length, 3);
  assert.match(warnings[0] ?? '', /training died by SIGSEGV: starting it again from its checkpoint of step 1/);
  assert.match(warnings[1] ?? '', /lost its device/);
});

test('--supervise passes on how training ended, and gives up where there is no progress', async () => {
  assert.equal((await supervised('refused', ['64'])).outcome, { stoppedBy: 64 });
  assert.equal((await supervised('stopped', ['130'])).outcome, { stoppedBy: 130 });
  const { outcome, starts } = await supervised('stuck', ['SIGSEGV', 'stuck SIGABRT']);
  assert.instance(outcome, SopError);
  assert.is((outcome as SopError).exitCode, 70);
  assert.match((outcome as SopError).message, /died by SIGABRT.*no progress since its last start \(step 1\)/);
  assert.is(starts.length, 2);
});

test.run();
