import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ListCounts } from '../src/cli/list-counts.js';
import { MetricsFile } from '../src/cli/metrics-file.js';
import { Printer } from '../src/cli/printer.js';
import { CountProgress, formatDuration, formatRate, type ProgressSurface, TrainProgress } from '../src/cli/progress.js';
import { Saver } from '../src/cli/run-checkpoints.js';
import {
  checkSameRun,
  prepareRunFolder,
  readRunConfig,
  TrainLog,
  writeEnvironment,
  writeRunConfig,
} from '../src/cli/run-folder.js';
import { RunMetrics } from '../src/cli/run-metrics.js';
import { watchSignals } from '../src/cli/signals.js';
import { commandLineLayer, resolveConfig } from '../src/config/resolve.js';
import { residentSet } from '../src/data/dataset.js';
import { checkpointPath } from '../src/data/node/checkpoints.js';
import { readSafetensorsHeader } from '../src/data/node/files.js';
import { ExitCode, SopError } from '../src/errors.js';
import { unpackedFolder } from '../src/node/cache.js';
import { fails, temporaryFolder, writeTree } from './data-support.js';

const folder = temporaryFolder();
const configOf = (...sets: string[]) => resolveConfig([commandLineLayer(sets)]);
const lines = (path: string) => readFileSync(path, 'utf8').split('\n').slice(0, -1);
const steps = (path: string) => lines(path).map((line) => JSON.parse(line).step);

test('a run folder is made, filled, refused to others and found again', async () => {
  const run = await prepareRunFolder(join(folder, 'runs', 'a'), { resume: false });
  const config = configOf('model.width=128', 'train.steps=7');
  // A path may hold a line break: the rest of it would be read as a setting.
  await writeRunConfig(run, config, 'sop-gpu train --out runs/a --data a\nb: c\rd');
  await writeEnvironment(run, { adapter: 'a CPU' });
  assert.equal(await readRunConfig(run), config);
  const environment = JSON.parse(readFileSync(run.environment, 'utf8'));
  assert.equal([environment.adapter, environment.node], ['a CPU', process.versions.node]);
  assert.equal(readdirSync(run.folder).sort(), ['checkpoints', 'config.yaml', 'environment.json', 'export']);
  await fails(() => prepareRunFolder(run.folder, { resume: false }), 73, /holds another run/, /--resume/);
  await prepareRunFolder(run.folder, { resume: true });
});

test('a folder with other things in it takes a run, a folder without a run cannot be resumed', async () => {
  const place = join(folder, 'notes');
  mkdirSync(place);
  writeFileSync(join(place, 'notes.txt'), 'x');
  await fails(() => prepareRunFolder(place, { resume: true }), 66, /nothing to resume/);
  await fails(() => prepareRunFolder(join(folder, 'none'), { resume: true }), 66, /nothing to resume/);
  assert.is(existsSync(join(folder, 'none')), false);
  await prepareRunFolder(place, { resume: false });
  writeFileSync(join(place, 'checkpoints', 'last.safetensors'), '');
  await fails(() => prepareRunFolder(place, { resume: false }), 73, /holds another run/);
  await fails(() => prepareRunFolder(join(place, 'notes.txt'), { resume: false }), 73, /notes\.txt/);
  // Found now, not when all is trained.
  const blocked = writeTree(join(folder, 'blocked'), { 'config.yaml': '', export: 'a file' });
  await fails(() => prepareRunFolder(blocked, { resume: true }), 73, /export.*not a folder/);
  const taken = writeTree(join(folder, 'taken'), { 'config.yaml': '', 'metrics.jsonl/x': '' });
  await fails(() => prepareRunFolder(taken, { resume: true }), 73, /metrics\.jsonl\): it is a folder/);
  await fails(() => prepareRunFolder(join(place, 'notes.txt', 'run'), { resume: false }), 73, /not a folder/);
});

test('a folder that a file system cannot make is an error at once, not a wait without end', async () => {
  if (process.platform !== 'linux') return console.log('NOT RUN: there is no /proc here');
  await fails(() => prepareRunFolder('/proc/none/run', { resume: false }), 73, /the folder for it does not exist/);
  const before = { cache: process.env['XDG_CACHE_HOME'], temporary: process.env['TMPDIR'] };
  Object.assign(process.env, { XDG_CACHE_HOME: '/proc/none', TMPDIR: folder });
  const unpacked = unpackedFolder('pack', () => [{ name: 'a/b', content: new Uint8Array(3) }]);
  for (const [name, value] of [
    ['XDG_CACHE_HOME', before.cache],
    ['TMPDIR', before.temporary],
  ] as const) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  assert.ok(unpacked?.startsWith(folder), String(unpacked));
  assert.is(readFileSync(join(String(unpacked), 'a', 'b')).length, 3);
});

test('a resumed run has the configuration it was started with', async () => {
  const saved = configOf();
  checkSameRun(saved, configOf('log.every=5', 'eval.k=20'), 'runs/a');
  const patterns = [/optim\.lr was 0\.0005, is 0\.001/, /train\.seed was 0, is 3/];
  await fails(() => checkSameRun(saved, configOf('optim.lr=1e-3', 'train.seed=3'), 'runs/a'), 78, ...patterns);
});

test('metrics: a line is whole when append returns', () => {
  const path = join(folder, 'metrics.jsonl');
  const metrics = MetricsFile.open(path);
  metrics.append({ step: 1, loss: 2.5 });
  metrics.append({ step: 1, knn: new Map([[10, 0.5]]) });
  assert.equal(lines(path), ['{"step":1,"loss":2.5}', '{"step":1,"knn":{"10":0.5}}']);
  metrics.sync();
  metrics.close();
});

test('metrics: a file that the disk no longer serves is an error of the disk, not of the program', async () => {
  const metrics = MetricsFile.open(join(folder, 'broken.jsonl'));
  metrics.close();
  await fails(() => metrics.append({ step: 1 }), 74, /broken\.jsonl.*EBADF/);
  await fails(() => metrics.restore(), 73, /broken\.jsonl.*EBADF/);
});

test('metrics: a resume drops later, half-written and foreign lines, and keeps all others as they are', () => {
  const path = join(folder, 'resumed.jsonl');
  const good = [1, 2, 3].map((step) => `{"step":${step}, "loss":${step}}`);
  const knn = '{"step":2,"knn":{"10":0.7}}';
  const later = ['{"step":4,"loss":4}', '{"step":4,"knn":{"10":0.8}}', '{"step":5,"lo'];
  writeFileSync(path, [...good.slice(0, 2), knn, 'half{"step":3}', '{"step":"3"}', good[2], ...later].join('\n'));
  const metrics = MetricsFile.open(path, 3);
  assert.equal(metrics.history, { missing: 0, lastEvaluation: 2, lists: new ListCounts() });
  metrics.append({ step: 4, loss: 4.5 });
  metrics.close();
  assert.equal(lines(path), [...good.slice(0, 2), knn, good[2], '{"step":4,"loss":4.5}']);
  assert.equal(
    readdirSync(folder).filter((name) => name.endsWith('.tmp')),
    [],
  );
});

test('metrics: doubled lines are dropped, steps without a line are counted and told', () => {
  const path = join(folder, 'doubled.jsonl');
  const good = ['{"step":1}', '{"step":2}', '{"step":2,"knn":null}', '{"step":3}'];
  writeFileSync(path, `${[...good, ...good, '{"step":-1}'].join('\n')}\n`);
  const metrics = MetricsFile.open(path, 3);
  assert.equal(metrics.history, { missing: 0, lastEvaluation: 2, lists: new ListCounts() });
  metrics.close();
  assert.equal(lines(path), good);
  const warnings: string[] = [];
  const printer = new Printer(true, new PassThrough(), new PassThrough());
  printer.tee((line) => warnings.push(line));
  RunMetrics.open(path, 3, printer).close();
  assert.equal(warnings, []);
  writeFileSync(path, '{"step":1}\n{"step":3}\n');
  RunMetrics.open(path, 3, printer).close();
  rmSync(path);
  RunMetrics.open(path, 3, printer).close();
  assert.is(warnings.length, 2);
  assert.match(warnings[0] ?? '', /doubled\.jsonl lacks 1 of the 3 steps/);
  assert.match(warnings[1] ?? '', /doubled\.jsonl lacks 3 of the 3 steps/);
});

test('metrics: a whole last line without its line break is kept and ended', () => {
  const path = join(folder, 'unended.jsonl');
  writeFileSync(path, '{"step":1}\n{"step":2}');
  const metrics = MetricsFile.open(path, 2);
  metrics.append({ step: 3 });
  metrics.close();
  assert.equal(steps(path), [1, 2, 3]);
});

test('metrics: every cut of a file leaves each step once', () => {
  const path = join(folder, 'cut.jsonl');
  const text = Array.from({ length: 6 }, (_, i) => `{"step":${i + 1},"loss":0.5}\n`).join('');
  for (let cut = 0; cut <= text.length; cut++) {
    writeFileSync(path, text.slice(0, cut));
    const whole = Math.floor((cut + 1) / (text.length / 6));
    const from = Math.min(whole, 3);
    const metrics = MetricsFile.open(path, from);
    for (let step = from + 1; step <= 6; step++) metrics.append({ step });
    metrics.close();
    assert.equal(steps(path), [1, 2, 3, 4, 5, 6], `cut at ${cut}`);
  }
});

test('metrics: a file longer than what is read at once', () => {
  const path = join(folder, 'long.jsonl');
  const count = 30_000;
  writeFileSync(path, '');
  appendFileSync(
    path,
    Array.from({ length: count }, (_, i) => `{"step":${i + 1},"name":"${'é'.repeat(25)}"}\n`).join(''),
  );
  MetricsFile.open(path, count - 1).close();
  const found = steps(path);
  assert.is(found.length, count - 1);
  assert.ok(found.every((step, i) => step === i + 1));
});

test('the log gets every line without colours, quiet or not, and is appended to', () => {
  const path = join(folder, 'train.log');
  for (const quiet of [true, false]) {
    const out = new PassThrough();
    const printer = new Printer(quiet, out, new PassThrough());
    const log = new TrainLog(path);
    const end = printer.tee(log.line);
    printer.line('\u001b[32mstep 1\u001b[39m');
    printer.warn('slow');
    end();
    log.close();
    printer.line('after');
    const text = String(out.read() ?? '');
    assert.is(text, quiet ? '' : '\u001b[32mstep 1\u001b[39m\nafter\n');
  }
  const stamp = /^\d{4}-\d\d-\d\dT\S+Z /;
  assert.ok(lines(path).every((line) => stamp.test(line)));
  const said = lines(path).map((line) => line.replace(stamp, ''));
  assert.equal(said, ['step 1', 'sop-gpu: warning: slow', 'step 1', 'sop-gpu: warning: slow']);
});

/** A place for progress that is no terminal, and a clock that only the test moves. */
function surface(): {
  readonly surface: ProgressSurface;
  clock: number;
  readonly printed: () => string[];
  printer: Printer;
} {
  const out = new PassThrough();
  const state = {
    clock: 0,
    surface: { stream: out, now: () => state.clock },
    printed: () =>
      String(out.read() ?? '')
        .split('\n')
        .slice(0, -1),
    printer: new Printer(false, out, out),
  };
  return state;
}

test('progress off a terminal is a plain line every five seconds, with the time left', () => {
  const state = surface();
  const progress = new TrainProgress(state.printer, 0, state.surface);
  for (let step = 1; step <= 100; step++) {
    state.clock += 200;
    progress.update({ step, steps: 100, fraction: step / 100, lossCls: 4.25, lossPatch: 3, imagesPerSecond: 412.3 });
  }
  progress.stop();
  const printed = state.printed();
  assert.is(printed.length, 4);
  assert.is(printed[0], 'step 25/100  cls 4.250  patch 3.000  412 images/s  15 s left');
  assert.match(printed[3] ?? '', /^step 100\/100 .* 0 s left$/);
});

test('a terminal whose cursor cannot be moved gets plain lines too', () => {
  const { TERM } = process.env;
  const printedOn = (terminal: string): string => {
    const { surface: place, printer } = surface();
    const { stream } = place;
    Object.assign(stream, { isTTY: true });
    process.env['TERM'] = terminal;
    const progress = new TrainProgress(printer, 1, place);
    progress.update({ step: 1, fraction: 0.5, lossCls: 1, lossPatch: 1, imagesPerSecond: 1.5 });
    progress.stop();
    return String((stream as PassThrough).read() ?? '');
  };
  try {
    assert.ok(printedOn('xterm').includes('\u001b['));
    assert.match(printedOn('dumb'), /^step 1 {2}.*\n$/);
  } finally {
    if (TERM === undefined) delete process.env['TERM'];
    else process.env['TERM'] = TERM;
  }
});

test('log.every prints by steps', () => {
  const state = surface();
  const progress = new TrainProgress(state.printer, 10, state.surface);
  for (let step = 1; step <= 25; step++) {
    progress.update({ step, fraction: step / 100, lossCls: 1, lossPatch: 1, imagesPerSecond: 1.5 });
  }
  assert.equal(
    state.printed().map((line) => line.split('  ')[0]),
    ['step 10', 'step 20'],
  );
});

test('counting progress says nothing of work that is done at once', () => {
  const state = surface();
  const progress = new CountProgress('images', state.printer, state.surface);
  progress.update(10, 10);
  progress.stop();
  assert.equal(state.printed(), []);
});

test('counting progress says what, how fast and how long still', () => {
  const state = surface();
  const progress = new CountProgress('images evaluated', state.printer, state.surface);
  for (let done = 0; done <= 1000; done += 250) {
    progress.update(done, 1000);
    state.clock += 5000;
  }
  progress.stop();
  const printed = ['250/1000 images evaluated  50.0/s  15 s left', '500/1000 images evaluated  50.0/s  10 s left'];
  assert.equal(state.printed(), [
    ...printed,
    '750/1000 images evaluated  50.0/s  5 s left',
    '1000/1000 images evaluated  50.0/s',
  ]);
});

test('the progress of a run of one step ends like any other', () => {
  const state = surface();
  const progress = new TrainProgress(state.printer, 0, state.surface);
  progress.update({ step: 1, steps: 1, fraction: 1, lossCls: 4.25, lossPatch: 3, imagesPerSecond: 41 });
  progress.stop();
  assert.equal(state.printed(), ['step 1/1  cls 4.250  patch 3.000  41.0 images/s  0 s left']);
});

test('durations and rates as people write them', () => {
  const cases = [
    [0, '0 s'],
    [59.4, '59 s'],
    [59.6, '1:00'],
    [725, '12:05'],
    [10_929, '3:02:09'],
    [183_600, '2 d 03:00'],
  ] as const;
  for (const [seconds, text] of cases) assert.is(formatDuration(seconds), text);
  assert.is(formatDuration(Number.NaN), '?');
  assert.equal([formatRate(1.234), formatRate(99.96), formatRate(1234.5)], ['1.23', '100', '1235']);
});

test('signals: the first asks to stop, a second SIGINT leaves, SIGHUP is survived, others get them back', async () => {
  for (const [name, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const said: string[] = [];
    const early: string[] = [];
    const left: number[] = [];
    const stop = watchSignals((code) => left.push(code));
    stop.onLeave((signal) => early.push(signal));
    process.emit(name);
    assert.equal([early, left.splice(0)], [[name], [exitCode]], 'before anything can be saved it leaves');
    stop.begin((signal) => said.push(signal));
    process.emit('SIGHUP');
    process.emit('SIGUSR1');
    assert.equal([stop.takeSave(), stop.takeSave()], [true, false]);
    assert.equal([stop.signal, stop.exitCode], [null, null]);
    process.emit(name);
    assert.equal([stop.signal, stop.exitCode], [name, exitCode]);
    process.emit('SIGTERM');
    assert.equal(left, []);
    process.emit('SIGINT');
    assert.equal([said, left], [[name], [130]]);
    stop.dispose();
    assert.is(process.listenerCount(name), 0);
  }
});

test('a checkpoint is due by the seconds of training since the last try, whether that came to its end or not', async () => {
  const progress = { step: 9, elapsed: 100, unused: [], best: Number.NaN, teacherEntropy: Number.NaN };
  const setup = { config: configOf('train.checkpoint_minutes=2') } as ConstructorParameters<typeof Saver>[0];
  const none = null as never; // what is saved: every try fails
  const saver = new Saver(setup, none, none, none, progress, null);
  const dueAt = (elapsed: number): boolean => {
    progress.elapsed = elapsed;
    return saver.due();
  };
  assert.equal([100, 219, 220, 1000].map(dueAt), [false, false, true, true]);
  const tried = (name: 'last' | 'best') =>
    saver.save(name).then(
      () => assert.unreachable(),
      () => undefined,
    );
  await tried('best');
  assert.is(dueAt(1000), true, 'the best one is no copy of the last');
  await tried('last');
  assert.equal([1000, 1119, 1120].map(dueAt), [false, false, true]);
});

test('a best checkpoint that could not be written is none that a later one has to exceed', async () => {
  const config = configOf();
  const run = await prepareRunFolder(join(folder, 'best'), { resume: false });
  const printer = new Printer(true, new PassThrough(), new PassThrough());
  const splits = { train: residentSet({ name: 'two', width: 1, height: 1, channels: 1, pixels: new Uint8Array(2) }) };
  const setup = { config, run, splits, printer, gpu: { target: { name: 'a CPU' }, check() {} } };
  const trainer = { training: { config, data: { channels: 1, mean: [0], std: [1] } }, save: async () => [] };
  const place = {
    full: true,
    async secure() {
      if (this.full) throw new SopError(ExitCode.io, { what: 'a', where: 'b', why: 'disk full', fix: 'd' });
    },
  };
  const progress = { step: 1, elapsed: 0, unused: [], best: Number.NaN, teacherEntropy: 0 };
  const saver = new Saver(setup as never, trainer as never, { sync() {} } as never, place as never, progress, null);
  const saved = async (score: number, step: number): Promise<string | undefined> => {
    progress.step = step;
    await saver.saveBest(score);
    await saver.settled();
    const path = checkpointPath(run.folder, 'best');
    return existsSync(path) ? (await readSafetensorsHeader(path)).metadata.get('step') : undefined;
  };
  assert.is(await saved(60, 1), undefined);
  place.full = false;
  assert.equal([await saved(50, 2), progress.best], ['2', 50]);
  assert.equal([await saved(49, 3), progress.best], ['2', 50]);
  place.full = true;
  assert.equal([await saved(70, 4), progress.best], ['2', 50]);
  place.full = false;
  assert.equal([await saved(51, 5), progress.best], ['5', 51]);
});

test.run();
