import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { availableMemory } from '../src/cli/host-memory.js';
import { runFolder } from '../src/cli/run-folder.js';
import type { TrainingOutcome } from '../src/cli/run-training.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { decodeSafetensors } from '../src/data/safetensors.js';
import { openNodeGpu } from '../src/node.js';
import { bindingLimit } from '../src/plan/binding-limit.js';
import { failsWith } from './cli-support.js';
import { fails, picture, temporaryFolder, writeTree } from './data-support.js';
import { projectFile } from './project.js';
import { runCommand } from './run-command.js';
import { atStep, greySet, interruptAt, metricsOf, sameRun, settings, type TinyOptions, trainTiny } from './tiny-run.js';

/** `sop-gpu train` from images to weights: what a run leaves behind, and that stopping it changes nothing. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
/** 12 steps an epoch: the run ends in the middle of the second. */
const STEPS = 22;
const gpu = await openNodeGpu({ quiet: true });

/** The command line of the same run. */
const words = (out: string, ...more: string[]): string[] => [
  ...['train', '--data', grey, '--out', out, '--steps', String(STEPS), '--batch-size', '8'],
  ...settings.flatMap((setting) => ['--set', setting]),
  ...more,
];

interface RunOptions extends Omit<TinyOptions, 'data' | 'length'> {
  readonly data?: string;
  readonly length?: TinyOptions['length'];
}

/** A run, or a part of one, on the device that all tests share: it compiles a kernel once. */
const train = (out: string, options: RunOptions = {}): Promise<TrainingOutcome> =>
  trainTiny(gpu, out, { data: grey, length: { steps: String(STEPS) }, ...options });

test('a run leaves settings, metrics, log, checkpoints and weights behind', async () => {
  const out = join(folder, 'whole');
  const { steps, evaluation } = await train(out);
  assert.is(steps, STEPS);
  assert.equal(Object.keys(evaluation?.comparison?.knn.top1 ?? {}), ['1', '3']);
  const { stepLines, evaluations } = metricsOf(out);
  assert.equal(
    stepLines.map(({ step }) => step),
    Array.from({ length: STEPS }, (_, i) => i + 1),
  );
  assert.equal(
    evaluations.map(({ step, epoch }) => [step, epoch]),
    [
      [12, 0],
      [STEPS, 1],
    ],
  );
  for (const line of stepLines) {
    assert.equal(Object.keys(line), STEP_KEYS);
    assert.ok(Object.values(line).every(Number.isFinite), JSON.stringify(line));
  }
  for (const line of evaluations) {
    assert.equal(Object.keys(line), EVALUATION_KEYS);
    assert.equal(Object.keys(line['knn'] as object), ['1', '3']);
    assert.ok(Number.isFinite(line['teacher_entropy']), JSON.stringify(line));
  }
  assert.match(readFileSync(runFolder(out).config, 'utf8'), /seed: 7/);
  assert.is(JSON.parse(readFileSync(runFolder(out).environment, 'utf8')).target.name, gpu.target.name);
  const { tensors, metadata } = decodeSafetensors(readFileSync(runFolder(out).exported), 'export');
  assert.equal(tensors.get('pos_embed')?.shape, [1, 5, 16]);
  assert.is(metadata.get('model.heads'), '2');
  assert.not(tensors.has('head.mlp.0.weight'));
});

test('a run stopped in the middle of an epoch goes on with the same bits', async () => {
  const out = join(folder, 'stopped');
  const { stoppedBy, steps } = await train(out, { onLine: interruptAt(15) });
  assert.is(stoppedBy, 130);
  assert.ok(steps >= 15 && steps <= 17, `stopped after ${steps}`);
  const lines: string[] = [];
  assert.is((await train(out, { resume: true, profile: true, onLine: (line) => lines.push(line) })).steps, STEPS);
  sameRun(out, join(folder, 'whole'));
  // Both tables of the profile add up to the same, and the trace has every dispatch.
  const totals = lines.flatMap((line) => /^ *one step +([\d.]+) +100\.0 +(\d+) /.exec(line)?.slice(1, 3) ?? []);
  const { traceEvents } = JSON.parse(readFileSync(join(out, 'profile.json'), 'utf8')) as { traceEvents: unknown[] };
  assert.equal([totals.length, totals.slice(0, 2), totals[1]], [4, totals.slice(2), String(traceEvents.length)]);
  assert.ok(lines.some((line) => /^ *student attn +[\d.]/.test(line)));
  assert.ok(
    lines.some((line) => /^step +[\d.]+ ms in the training, the median of its last 5;.* \d+ % of it$/.test(line)),
  );
});

test('the steps of a profile draw anchors of their own, and search the lists of neighbours that these lack', async () => {
  const lines: string[] = [];
  const set = ['sop.neighbour_search=graph', 'sop.cls.memory=512', 'eval.every_epochs=0'];
  await train(join(folder, 'profiled'), {
    ...{ set, length: { steps: '2' }, profile: true },
    onLine: (line) => lines.push(line),
  });
  const counts = lines.flatMap(
    (line) => /^lists +(\d+) searched anew a step there, (\d+) in/.exec(line)?.slice(1) ?? [],
  );
  assert.is(counts.length, 2);
  // Of 8 anchors in 512 rows few have been drawn before.
  assert.ok(Number(counts[1]) >= 4, `${counts}`);
});

test('a signal ends a profile: the run is complete, and its code says that it was stopped', async () => {
  const out = join(folder, 'profile');
  const lines: string[] = [];
  const onLine = (line: string): void => {
    lines.push(line);
    if (line.startsWith('weights ')) process.emit('SIGTERM', 'SIGTERM');
  };
  const { stoppedBy, evaluation } = await train(out, { profile: true, onLine });
  assert.is(stoppedBy, 143);
  assert.ok(evaluation);
  assert.not.ok(existsSync(join(out, 'profile.json')));
  assert.not.ok(lines.some((line) => /one step/.test(line)));
  sameRun(out, join(folder, 'whole'));
});

test('a finished run that is resumed stays as it is', async () => {
  const out = join(folder, 'stopped');
  const { steps, evaluation } = await train(out, { resume: true });
  assert.is(steps, STEPS);
  assert.ok(evaluation);
  sameRun(out, join(folder, 'whole'));
});

test('accumulated batches: the same bits after a stop', async () => {
  const [set, length] = [['optim.accumulate=3'], { steps: '7' }];
  const [whole, out] = [join(folder, 'whole-3'), join(folder, 'stopped-3')];
  await train(whole, { set, length });
  assert.is((await train(out, { set, length, onLine: interruptAt(1) })).stoppedBy, 130);
  await train(out, { set, length, resume: true });
  sameRun(out, whole);
});

test('SIGINT to the command: saved, 130; --resume finishes the run with the same bits', async () => {
  const out = join(folder, 'spawned');
  const child = spawn(process.execPath, [fileURLToPath(projectFile('bin/sop-gpu')), ...words(out)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, errors, sent] = ['', '', false];
  child.stderr.on('data', (chunk: Buffer) => {
    errors += String(chunk);
  });
  child.stdout.on('data', (chunk: Buffer) => {
    output += String(chunk);
    if (!sent && /^step 1\//m.test(output)) sent = child.kill('SIGINT');
  });
  const [code] = await once(child, 'exit');
  assert.is(code, 130, `${output}${errors}`);
  const loaded = await loadNewestValid(out);
  assert.ok(loaded && loaded.checkpoint.step > 0 && loaded.checkpoint.step < STEPS, output);

  await failsWith(78, ['train', '--out', out, '--resume', '--set', 'optim.lr=0.5'], /optim\.lr was 0\.0005, is 0\.5/);
  await failsWith(64, ['train', '--out', out, '--resume', '--init', 'x.safetensors'], /--resume with --init/);
  const { config } = runFolder(out);
  const own = readFileSync(config, 'utf8');
  writeFileSync(config, own.replace(/^( *clip:).*$/m, '$1 7'));
  await failsWith(78, ['train', '--out', out, '--resume'], /config\.yaml\): optim\.clip was 3, is 7;/);
  writeFileSync(config, own);
  await failsWith(73, words(out), /it holds another run/, /--resume/);

  const resumed = await runCommand('train', '--out', out, '--resume', '--json', join(folder, 'result.json'));
  assert.is(resumed.code, 0, resumed.err);
  assert.match(resumed.out, new RegExp(`after step ${loaded?.checkpoint.step}\n`));
  assert.is(JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')).steps, STEPS);
  sameRun(out, join(folder, 'whole'));
});

test('a model beyond the memory of the machine or a binding of the adapter is refused before anything is allocated', async () => {
  const out = join(folder, 'too-large');
  const model = (width: number, depth: number): string[] => {
    const own = [`model.width=${width}`, `model.depth=${depth}`];
    const kept = settings.filter((setting) => !/^model\.(width|depth)=/.test(setting));
    return ['train', '--data', grey, '--out', out, '--steps', '1', '--batch-size', '8'].concat(
      [...kept, ...own].flatMap((setting) => ['--set', setting]),
    );
  };
  const { target } = gpu;
  // Whatever the adapter binds, the matrix of queries, keys and values is larger.
  const side = 2 * Math.ceil(Math.sqrt(bindingLimit(target) / 24));
  const bytes = `${12 * side ** 2} bytes, shape \\[${3 * side}, ${side}\\]`;
  await failsWith(69, model(side, 1), new RegExp(`student\\.blocks\\.0\\.attn\\.qkv.*${bytes}.*model\\.width=N`));
  if (target.kind === 'gpu') return console.log('NOT RUN: the memory of a GPU cannot be asked for');
  // Weights, gradients, both moments, teacher: 960 MiB a block.
  const depth = Math.ceil(availableMemory() / (960 * 2 ** 20));
  await failsWith(
    69,
    model(2048, depth),
    /does not fit into memory .* needs [\d.]+ MiB, most for .*lower model\.width/,
  );
  assert.is(existsSync(runFolder(out).config), false);
});

test('what cannot be trained is said in one line, before any work', async () => {
  const small = greySet(join(folder, 'small'), 5);
  const out = join(folder, 'none');
  await failsWith(66, words(out, '--data', small), /at least 8 images, got 5/);
  await failsWith(66, words(out, '--data', join(folder, 'nowhere')), /does not exist/);
  await failsWith(66, ['train', '--resume', '--out', out], /config\.yaml/);
  await failsWith(66, ['plan', '--data', small, '--preset', 'fashion-mnist', '--batch-size', '8'], /at least 8 images/);
  const config = readFileSync(runFolder(join(folder, 'whole')).config, 'utf8').replaceAll(grey, 'gone/photos');
  const moved = writeTree(join(folder, 'moved'), { 'config.yaml': config });
  await failsWith(66, ['train', '--resume', '--out', moved], /gone\/photos\): it does not exist/, /give --data/);
  const cut = writeTree(join(folder, 'cut'), { 'config.yaml': config.slice(0, config.indexOf('\ndata:')) });
  await failsWith(78, ['train', '--resume', '--out', cut], /no images \(.*config\.yaml\): it has no data\.path/);
  await failsWith(64, ['train', '--data', grey], /--out/);
  await failsWith(64, ['train', '--out', out], /--data/);
});

test('numbers that stop being finite end the run with 70; the last good checkpoint stays', async () => {
  const out = join(folder, 'diverged');
  await fails(
    () => train(out, { set: ['optim.lr=1e30', 'optim.warmup=0'] }),
    70,
    /loss|gradient of \w+|weights/,
    /step \d+/,
  );
  const loaded = await loadNewestValid(out);
  assert.ok(loaded, 'no checkpoint');
  assert.ok([...(loaded?.checkpoint.tensors.keys() ?? [])].includes('student.pos_embed'));
});

test('a checkpoint that cannot be written costs a warning; three in a row end the run with 74', async () => {
  const out = join(folder, 'full');
  const lines: string[] = [];
  /** No file can take the place of a folder: neither the next checkpoint nor the one that is being written now. */
  const block = (path: string) => () => {
    rmSync(path, { force: true });
    mkdirSync(path);
  };
  const { lastCheckpoint } = runFolder(out);
  const fill = atStep(3, block(lastCheckpoint));
  const options = { checkpointSeconds: 0, length: { steps: '6' }, set: ['eval.every_epochs=0'] };
  const onLine = (line: string): void => {
    fill(line);
    // Not at the next step: the checkpoint before may still be under way then, and none would have met the folder.
    if (line.includes('it is a folder')) rmdirSync(lastCheckpoint);
    lines.push(line);
  };
  assert.is((await train(out, { ...options, onLine })).steps, 6);
  const warnings = lines.filter((line) => /warning/.test(line));
  assert.is(warnings.length, 1, warnings.join('\n'));
  assert.match(warnings[0] ?? '', /it is a folder.*the run goes on, 1 of 3/);
  assert.is((await loadNewestValid(out))?.checkpoint.step, 6);

  const full = join(folder, 'fuller');
  const fillForGood = atStep(2, block(runFolder(full).lastCheckpoint));
  const run = () => train(full, { ...options, length: { steps: '12' }, onLine: fillForGood });
  await fails(run, 74, /3 of 3 checkpoints in a row/);
  const { length } = metricsOf(full).stepLines;
  assert.ok(length >= 3 && length <= 6, `${length} steps`);
});

test('anchors of every selection train, and differ', async () => {
  const losses: unknown[] = [];
  for (const selection of ['uniform', 'fixed', 'low-energy']) {
    const out = join(folder, selection);
    await train(out, { length: { steps: '3' }, set: [`sop.anchor_selection=${selection}`, 'sop.search=non-anchors'] });
    losses.push(...metricsOf(out).stepLines.map(({ loss_cls: loss }) => loss));
  }
  assert.ok(losses.every(Number.isFinite), String(losses));
  assert.is(new Set(losses).size, losses.length, String(losses));
});

test('colour photographs of different sizes, decoded as they are needed', async () => {
  const photos = join(folder, 'photos');
  const files = Array.from({ length: 16 }, async (_, i) => {
    const [width, height] = [41 + ((7 * i) % 30), 64 - ((5 * i) % 24)];
    return [
      `${i % 2 ? 'cat' : 'dog'}/${i}.png`,
      await picture(width, height, 3, i + 1)
        .png()
        .toBuffer(),
    ] as const;
  });
  writeTree(photos, Object.fromEntries(await Promise.all(files)));
  const length = { steps: '4' };
  const [whole, out] = [join(folder, 'whole-colour'), join(folder, 'stopped-colour')];
  await train(whole, { data: photos, length });
  const { stepLines } = metricsOf(whole);
  assert.is(stepLines.length, 4);
  assert.ok(stepLines.every(({ loss }) => Number.isFinite(loss)));
  await train(out, { data: photos, length, onLine: interruptAt(1) });
  await train(out, { data: photos, length, resume: true });
  sameRun(out, whole);
  const first = join(photos, 'dog', '0.png');
  const content = readFileSync(first);
  await picture(41, 64, 3, 99).png().toFile(first);
  await fails(() => train(out, { data: photos, length, resume: true }), 78, /the images have changed \(photos\)/);
  writeFileSync(first, content);
  await train(out, { data: photos, length, resume: true });
});

test('an image that vanishes ends the run with 66, and what was learned is kept', async () => {
  const out = join(folder, 'vanished');
  const photos = join(folder, 'photos');
  const onLine = atStep(2, () => rmSync(photos, { recursive: true }));
  await fails(() => train(out, { data: photos, length: { steps: '40' }, onLine }), 66, /photos/);
  const steps = metricsOf(out).stepLines.length;
  assert.ok(steps >= 2 && steps < 40, `${steps} steps`);
  assert.is((await loadNewestValid(out))?.checkpoint.step, steps);
});

test('a run by time ends in time, its schedules following the clock', async () => {
  const out = join(folder, 'timed');
  const { seconds } = await train(out, { length: { minutes: '0.02' } });
  assert.ok(seconds >= 1.2, `${seconds} s`);
  const { stepLines } = metricsOf(out);
  // The last step, and the one that ran while it was started, may end later.
  const before = stepLines.slice(0, -2).reduce((sum, line) => sum + 8 / Number(line['images_per_s']), 0);
  assert.ok(before < 1.2, `${before} s before the last two steps`);
  const momenta = stepLines.map(({ momentum }) => Number(momentum));
  assert.equal(
    momenta,
    [...momenta].sort((a, b) => a - b),
  );
  assert.is(momenta[0], 0.996);
});

test.run();

const STEP_KEYS = [
  ...['step', 'epoch', 'loss', 'loss_cls', 'loss_patch', 'grad_norm', 'param_norm', 'update_norm'],
  ...['lr', 'weight_decay', 'momentum', 'images_per_s'],
];
const EVALUATION_KEYS = ['step', 'epoch', 'knn', 'feature_std', 'effective_rank', 'teacher_entropy'];
