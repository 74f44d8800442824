import { spawnSync } from 'node:child_process';
import { appendFileSync, copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runFolder } from '../src/cli/run-folder.js';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { readSafetensorsFile } from '../src/data/node/files.js';
import type { NamedArray } from '../src/data/safetensors.js';
import { dataShape } from '../src/engine/run.js';
import { SopError } from '../src/errors.js';
import type { Evaluator } from '../src/eval/evaluator.js';
import type { Gpu } from '../src/gpu/device.js';
import { Graph } from '../src/graph/graph.js';
import { openNodeGpu } from '../src/node.js';
import { add } from '../src/ops/add.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { debugStep, NonFiniteStep } from '../src/sop/debug-step.js';
import { Feed } from '../src/sop/feed.js';
import { stepFiles } from '../src/sop/step-file.js';
import type { StepValues } from '../src/sop/step-inputs.js';
import { Trainer } from '../src/sop/trainer.js';
import { traceTraining } from '../src/sop/training.js';
import { fails, temporaryFolder } from './data-support.js';
import { atStep, greySet, idxSet, interruptAt, metricsOf, sameRun, tinySetup, trainTiny } from './tiny-run.js';

/** Faults that are brought about while a run is under way: what it says, what it keeps, and that it goes on. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
/** All pixels 0 but those of one image, which comes once in an epoch of 12 steps. */
const oneBright = idxSet(join(folder, 'one-bright'), 96, (i) => (Math.floor(i / 784) === 40 ? 255 : 0));
/** Divides by next to nothing: 0 stays 0, all else is beyond f32 as soon as it is squared. */
const brightIsInfinite = ['data.mean=0', 'data.std=1e-38', 'augment.solarize=0'];
/** Finds that all features are the same. */
const collapsedEvaluator = {
  evaluate: async () => ({ comparison: null, spread: { featureStd: 0.001, effectiveRank: 1 } }),
} as unknown as Evaluator;
const first = await openNodeGpu({ quiet: true });

let second: Gpu | undefined;

const warningsOf = (lines: readonly string[]): string[] => lines.filter((line) => line.includes('warning'));

test('a step that is not finite ends the run with 70 and is written down; debug step meets the same number', async () => {
  const out = join(folder, 'nonfinite');
  const options = { data: oneBright, length: { steps: '12' }, set: brightIsInfinite };
  let message = '';
  await trainTiny(first, out, options).catch((error: unknown) => {
    assert.instance(error, SopError);
    message = (error as SopError).message;
    assert.is((error as SopError).exitCode, 70);
  });
  const [, step] = message.match(/\((?:loss|gradient of \S+), step (\d+)\).*debug step --input \S+ replays it/) ?? [];
  assert.ok(step, message);
  assert.is(metricsOf(out).stepLines.length, Number(step) - 1);
  const path = join(out, `nonfinite-step-${step}.safetensors`);
  const { tensors, metadata } = await readSafetensorsFile(path);
  await debugStep(first, tensors, metadata, path).then(
    () => assert.unreachable('the step was finite'),
    (error: unknown) => {
      assert.instance(error, NonFiniteStep);
      assert.match((error as Error).message, /(loss|gradient of \S+)\): NaN or infinity/);
      assert.ok((error as NonFiniteStep).results.some(({ name }) => name === 'student.cls'));
    },
  );
  // Nothing of the step was written: the state in the file is the one that goes into it, and it is finite.
  assert.ok([...tensors.values()].filter(({ name }) => /^(student|teacher|memory)/.test(name)).every(isFinite32));
});

test('weights that become infinite end the run with 70; the step that led to it is made again and written down', async () => {
  const out = join(folder, 'infinite');
  // The rate rises from 0: the first steps are sound, the first checkpoint is some steps behind.
  const set = ['optim.lr=1e42', 'optim.min_lr=0', 'optim.warmup=0.5', 'optim.accumulate=1'];
  const lines: string[] = [];
  const run = trainTiny(first, out, { data: grey, length: { steps: '24' }, set, onLine: (line) => lines.push(line) });
  const path = join(out, 'nonfinite-step-2.safetensors');
  await fails(
    () => run,
    70,
    /\(weights \S+, step 2\): NaN or infinity in the updated weights/,
    /debug step --input \S+ replays/,
  );
  assert.equal(warningsOf(lines), []);
  const { tensors, metadata } = await readSafetensorsFile(path);
  assert.ok([...tensors.values()].filter(({ name }) => /^(student|teacher|memory)/.test(name)).every(isFinite32));
  // The moments are those after step 1, not the zeros of the checkpoint.
  const moment = tensors.get('moment1.blocks.0.mlp.fc1.weight')!.data as Float32Array;
  assert.ok(moment.some((value) => value !== 0));
  await debugStep(first, tensors, metadata, path).then(
    () => assert.unreachable('the step led to finite weights'),
    (error: unknown) => {
      assert.instance(error, NonFiniteStep);
      assert.match((error as Error).message, /updated\.student\.\S+\): NaN or infinity in the updated state/);
    },
  );
});

test('a signal in an evaluation ends it at once; the run that goes on makes it, with the same numbers and the same best', async () => {
  /** Finds these effective ranks one after the other, and is sent a signal in the evaluation of that number. */
  const evaluator = (ranks: number[], interrupted?: number): Evaluator => {
    let count = 0;
    const evaluate = async (_: unknown, told: (done: number, total: number) => void) => {
      if (++count === interrupted) process.emit('SIGTERM', 'SIGTERM');
      told(1, 2);
      return { comparison: null, spread: { featureStd: 0.9, effectiveRank: ranks.shift() } };
    };
    return { evaluate } as unknown as Evaluator;
  };
  const [whole, cut] = [join(folder, 'evaluated'), join(folder, 'evaluation-cut')];
  const options = { data: grey, length: { steps: '26' } };
  // After steps 12, 24 and 26. The first of equals stays the best.
  const ranks = [5, 4, 5];
  await trainTiny(first, whole, { ...options, evaluator: evaluator([...ranks]) });
  for (const [resume, interrupted, step] of [
    [false, 1, 12],
    [true, 2, 24],
  ] as const) {
    const outcome = await trainTiny(first, cut, { ...options, resume, evaluator: evaluator(ranks, interrupted) });
    assert.equal([outcome.stoppedBy, outcome.steps, outcome.evaluation], [143, step, null]);
  }
  const last = await trainTiny(first, cut, { ...options, resume: true, evaluator: evaluator(ranks) });
  assert.is(last.stoppedBy, undefined);
  assert.ok(last.evaluation);
  assert.ok(metricsOf(cut).evaluations.every((line) => Number(line['teacher_entropy']) > 0));
  sameRun(cut, whole);
  for (const out of [whole, cut])
    assert.is((await readSafetensorsFile(runFolder(out).bestCheckpoint)).metadata.get('step'), '12');
});

test('--on-nonfinite skip:n goes on with what was before, and says so; a collapse is told in plain words', async () => {
  const out = join(folder, 'skipped');
  const lines: string[] = [];
  const set = [...brightIsInfinite, 'train.on_nonfinite=skip:1'];
  const { steps } = await trainTiny(first, out, {
    data: oneBright,
    length: { steps: '12' },
    set,
    evaluator: collapsedEvaluator,
    onLine: (line) => lines.push(line),
  });
  assert.is(steps, 12);
  const { stepLines } = metricsOf(out);
  assert.is(stepLines.length, 12);
  const skipped = stepLines.filter((line) => 'skipped' in line);
  assert.is(skipped.length, 1, 'one step of an epoch has the image');
  assert.is(skipped[0]?.['update_norm'], 0);
  const warnings = warningsOf(lines);
  assert.match(warnings[0] ?? '', /step \d+ was skipped: \S.* is not finite \(1 of 1 in a row\)/);
  assert.match(warnings[1] ?? '', /training has collapsed \(step 12\): all images get nearly the same features/);
  assert.is((await loadNewestValid(out))?.checkpoint.step, 12);
});

test('--stop-on-collapse ends the run with 70, after saving', async () => {
  const out = join(folder, 'collapsed');
  const set = ['train.stop_on_collapse=true'];
  const evaluator = collapsedEvaluator;
  const run = () => trainTiny(first, out, { data: grey, length: { steps: '24' }, set, evaluator });
  await fails(run, 70, /training has collapsed \(step 12\): all images get nearly the same features/);
  assert.is((await loadNewestValid(out))?.checkpoint.step, 12);
});

test('any step of a run can be written down and gives the same numbers again', async () => {
  // No default: a setting that the file forgets, or that the run or the file takes from the wrong place, gives other numbers.
  const set = [
    ...['loss.cls_weight=0.7', 'loss.patch_weight=1.3', 'optim.clip=0.001', 'model.global_feature=avg-patch'],
    ...[
      'model.depth=2',
      'model.drop_path=0.5',
      'sop.student_temp=0.12',
      'sop.smoothing=0.2',
      'sop.contributions=one-hot',
      'sop.search=non-anchors',
    ],
  ];
  const setup = await tinySetup(first, join(folder, 'step-file'), { data: grey, length: { steps: '3' }, set });
  const { config, splits } = setup;
  for (const accumulate of [1, 2]) {
    const accumulated = { ...config, optim: { ...config.optim, accumulate } };
    const training = traceTraining(accumulated, dataShape(config, splits.train, first), first.target);
    const trainer = await Trainer.create(first, training);
    for (const write of Feed.residentPixels(training, splits.train)) trainer.write(write);
    const feed = new Feed(training, splits.train, 0);
    const values = (step: number): StepValues => ({
      ...{ step, lr: 1e-3, weightDecay: 20, momentum: 0.99, teacherTemp: 0.05 },
    });
    await trainer.step((await feed.next()).writes, values(1));
    const before = await trainer.save();
    const { loss } = await trainer.step((await feed.next()).writes, values(2));
    const after = new Map((await trainer.save()).map((array) => [array.name, array]));
    feed.close();
    trainer.destroy();
    const files = await stepFiles(first, training, splits.train, before, values(2));
    assert.is(files.length, training.views.length);
    const losses: number[] = [];
    for (const { tensors, metadata } of files) {
      const given = new Map(tensors.map((array) => [array.name, array]));
      const results = new Map((await debugStep(first, given, metadata, 'file')).map((array) => [array.name, array]));
      losses.push(Number(results.get('loss')?.data[0]));
      if (files.length > 1) continue;
      for (const array of before) {
        // The same sums in another order: the step file gives the head all patches of the teacher, not a list of some.
        const { name } = array;
        if (!name.startsWith('moment')) close(name, results.get(`updated.${name}`), after.get(name)!, array);
      }
    }
    const mean = losses.reduce((sum, value) => sum + value, 0) / losses.length;
    assert.ok(Math.abs(mean - loss) < 1e-5 * loss, `${mean} instead of ${loss}`);
  }
});

test('a run stopped before its first checkpoint begins again with the weights of --init, if they are the same', async () => {
  const init = join(folder, 'init.safetensors');
  copyFileSync(runFolder(join(folder, 'skipped')).exported, init);
  const [whole, cut] = [join(folder, 'init'), join(folder, 'init-cut')];
  const options = { data: grey, length: { steps: '2' }, init };
  await trainTiny(first, whole, options);
  await trainTiny(first, cut, options);
  rmSync(runFolder(cut).checkpoints, { recursive: true });
  await fails(
    () => trainTiny(first, cut, { ...options, init: undefined, resume: true }),
    66,
    /no checkpoint .*steps that were done/,
  );
  rmSync(runFolder(cut).metrics);
  const resume = () => trainTiny(first, cut, { ...options, init: undefined, resume: true });
  const own = readFileSync(init);
  copyFileSync(runFolder(whole).exported, init);
  await fails(resume, 78, /weights to begin with have changed \(.*init\.safetensors\)/);
  rmSync(init);
  await fails(resume, 66, /cannot read \(.*init\.safetensors\): it does not exist/);
  writeFileSync(init, own);
  await resume();
  sameRun(cut, whole);
});

test('a run that has a checkpoint goes on without the file that it began with', async () => {
  const init = join(folder, 'gone.safetensors');
  copyFileSync(runFolder(join(folder, 'skipped')).exported, init);
  const out = join(folder, 'init-gone');
  const options = { data: grey, length: { steps: '2' }, init };
  await trainTiny(first, out, { ...options, onLine: interruptAt(1) });
  rmSync(init);
  await trainTiny(first, out, { ...options, init: undefined, resume: true });
  sameRun(out, join(folder, 'init'));
});

test('SIGUSR1 saves and the run goes on; a half-written line of metrics is repaired', async () => {
  const out = join(folder, 'usr1');
  const options = { data: grey, length: { steps: '14' } };
  const cut = new SopError(70, { what: 'the run is cut', where: 'test', why: 'no save comes after', fix: 'resume it' });
  const onLine = (line: string): void => {
    atStep(3, () => process.emit('SIGUSR1', 'SIGUSR1'))(line);
    atStep(9, () => {
      throw cut;
    })(line);
  };
  await fails(() => trainTiny(first, out, { ...options, onLine }), 70, /the run is cut/);
  const step = (await loadNewestValid(out))?.checkpoint.step;
  assert.ok(step === 3 || step === 4 || step === 5, `the checkpoint is of step ${step}`);
  appendFileSync(runFolder(out).metrics, '{"step":9,"epo');
  await trainTiny(first, out, { ...options, resume: true });
  assert.equal(
    metricsOf(out).stepLines.map(({ step: number }) => number),
    Array.from({ length: 14 }, (_, i) => i + 1),
  );
});

test('a disk that fills up: old checkpoints stay, training goes on with warnings, 74 after three failures', async () => {
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
  if (mounted.status !== 0) {
    console.log(`NOT RUN: full disk: no small file system can be mounted here (${String(mounted.stderr).trim()})`);
    return;
  }
  try {
    const filler = join(disk, 'filler');
    const fill = (): void => {
      try {
        for (;;) appendFileSync(filler, Buffer.alloc(4096));
      } catch {}
    };
    const lines: string[] = [];
    const out = join(disk, 'run');
    const options = { data: grey, checkpointSeconds: 0, set: ['eval.every_epochs=0'] };
    const onLine = (line: string): void => {
      atStep(3, fill)(line);
      // Not at the next step: the checkpoint before may still be under way then, and none would have met the full disk.
      if (line.includes('writing failed')) rmSync(filler, { force: true });
      lines.push(line);
    };
    assert.is((await trainTiny(first, out, { ...options, length: { steps: '7' }, onLine })).steps, 7);
    const warnings = warningsOf(lines).join('\n');
    assert.match(warnings, /writing failed .*no space left on the device.*the run goes on, 1 of 3 checkpoints/);
    assert.is((await loadNewestValid(out))?.checkpoint.step, 7);
    rmSync(out, { recursive: true });

    const broken = trainTiny(first, out, { ...options, length: { steps: '30' }, onLine: atStep(3, fill) });
    await fails(() => broken, 74, /3 of 3 checkpoints in a row/);
    const kept = (await loadNewestValid(out))?.checkpoint.step ?? -1;
    assert.ok(kept >= 1 && kept <= 3, `the checkpoint is of step ${kept}`);
    rmSync(filler);
    assert.is((await trainTiny(first, out, { ...options, length: { steps: '30' }, resume: true })).steps, 30);
    assert.equal(
      metricsOf(out).stepLines.map(({ step }) => step),
      Array.from({ length: 30 }, (_, i) => i + 1),
    );
  } finally {
    spawnSync('umount', [disk]);
  }
});

test('memory that the device does not have is 69 and names the buffer', async () => {
  const graph = new Graph();
  const big = graph.input('a_large_tensor', [64]);
  const output = graph.one(add, [big, graph.input('other', [64])], {});
  const planned = plan(graph, first.target, [output]);
  const shortOf = (label: string): Gpu['device'] =>
    new Proxy(first.device, {
      get(device, key) {
        const value: unknown = Reflect.get(device, key, device);
        if (key === 'createBuffer')
          return (description: GPUBufferDescriptor) => {
            short = description.label === label;
            return device.createBuffer(description);
          };
        if (key === 'popErrorScope')
          return () => {
            const failed = short;
            return device.popErrorScope().then((error) => (failed ? { message: 'no memory' } : error));
          };
        return typeof value === 'function' ? value.bind(device) : value;
      },
    });
  let short = false;
  const label = planned.buffers[planned.range(big).buffer]?.label ?? '';
  const wrapped = { ...first, device: shortOf(label) };
  await fails(
    () => compile(wrapped, planned),
    69,
    new RegExp(label),
    /256 bytes could not be allocated/,
    /--batch-size/,
  );
});

test('a device lost in mid-step: once more on another one, from the last checkpoint, with the same numbers', async () => {
  const [whole, out] = [join(folder, 'whole'), join(folder, 'lost')];
  const options = { data: grey, length: { steps: '14' }, checkpointSeconds: 0 };
  await trainTiny(first, whole, options);
  const lines: string[] = [];
  let opened = 0;
  const reopen = async (): Promise<Gpu> => {
    opened++;
    second = await openNodeGpu({ quiet: true });
    return second;
  };
  const onLine = (line: string): void => {
    atStep(7, () => first.device.destroy())(line);
    lines.push(line);
  };
  assert.is((await trainTiny(first, out, { ...options, onLine, reopen })).steps, 14);
  assert.is(opened, 1);
  assert.match(warningsOf(lines)[0] ?? '', /the device was lost.*trying once more on another device/);
  sameRun(out, whole);
});
test('a validation error ends the run with 70, and nothing is saved from then on; the run goes on from before', async () => {
  if (!second) throw new Error('the test before this one opens the device');
  const gpu = second;
  const out = join(folder, 'invalid');
  const options = { data: grey, length: { steps: '9' }, checkpointSeconds: 0 };
  const onLine = atStep(5, () => gpu.device.createBuffer({ label: 'bad', size: 4, usage: 0xffff }));
  await fails(() => trainTiny(gpu, out, { ...options, onLine }), 70, /GPU validation error/);
  const step = (await loadNewestValid(out))?.checkpoint.step ?? -1;
  assert.ok(step >= 0 && step <= 5, `a checkpoint of step ${step}`);
  assert.equal(
    readdirSync(runFolder(out).checkpoints).filter((name) => name.endsWith('.tmp')),
    [],
  );
  const third = await openNodeGpu({ quiet: true });
  assert.is((await trainTiny(third, out, { ...options, resume: true })).steps, 9);
  // With a device lost and none to be had, the run ends with 75.
  third.device.destroy();
  await fails(() => trainTiny(third, join(folder, 'gone'), options), 75, /the device was lost/);
});

test.run();

function isFinite32({ data }: NamedArray): boolean {
  return Array.from(data as Float32Array).every(Number.isFinite);
}

/**
 * Two updates of `before` agree: most elements to a hundredth of what the step changes, and all to within the rounding of
 * their gradients, amplified by AdamW's division.
 */
function close(name: string, got: NamedArray | undefined, expected: NamedArray, before: NamedArray): void {
  assert.ok(got, `${name} is missing`);
  const [a, b, old] = [got!, expected, before].map(({ data }) => Array.from(data as Float32Array));
  const rms = (values: readonly number[]) => Math.hypot(...values) / Math.sqrt(values.length);
  const errors = b!.map((value, i) => Math.abs(a![i]! - value)).sort((one, other) => one - other);
  const [median, worst] = [errors[errors.length >> 1]!, errors.at(-1)!];
  // A step of AdamW moves an element by lr; where its gradient is noise, by up to twice that in the wrong direction.
  assert.ok(worst <= 2.1e-3 || worst <= 1e-5 * rms(b!), `${name} is off by ${worst}, its RMS is ${rms(b!)}`);
  const change = rms(b!.map((value, i) => value - old![i]!));
  assert.ok(median <= 0.01 * change, `${name}: half of it is off by ${median} or more, its change is ${change}`);
}
