import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { commandLineLayer, resolveConfig } from '../src/config/resolve.js';
import { Graph } from '../src/graph/graph.js';
import type { Scalar } from '../src/graph/op.js';
import { cosineSchedule, linearWarmup, type RunSchedules, runSchedules, scaledRate } from '../src/optim/schedules.js';
import { runClock } from '../src/sop/loop.js';
import { setStepValues, stepScalars } from '../src/sop/step-inputs.js';
import { projectFile } from './project.js';

/** As fixtures/make_fixtures.py writes it. */
interface Run {
  readonly settings: Readonly<Record<string, number>>;
  readonly expected: Readonly<Record<string, readonly number[]>>;
}

const fixture = projectFile('kernels-test/fixtures/schedules.json');
const runs = JSON.parse(readFileSync(fixture, 'utf8')) as Run[];

/** Schedules from configuration keys, positions counting iterations. */
function schedulesOf(settings: Run['settings']): RunSchedules {
  const value = (key: string): number => settings[key] ?? 0;
  const epoch = value('iterations_per_epoch');
  const total = epoch * value('train.epochs');
  return runSchedules({
    total,
    lr: scaledRate(value('optim.lr'), value('train.batch_size'), value('optim.accumulate')),
    minLr: value('optim.min_lr'),
    lrWarmup: 'optim.warmup' in settings ? value('optim.warmup') * total : value('optim.warmup_epochs') * epoch,
    weightDecay: value('optim.weight_decay'),
    weightDecayEnd: value('optim.weight_decay_end'),
    momentum: value('optim.momentum_teacher'),
    teacherTemp: value('sop.teacher_temp'),
    teacherTempStart: value('sop.teacher_temp_warmup'),
    teacherTempWarmup: value('sop.teacher_temp_warmup_epochs') * epoch,
  });
}

const columns = [
  ['lr', 'lr'],
  ['weight_decay', 'weightDecay'],
  ['momentum', 'momentum'],
  ['teacher_temp', 'teacherTemp'],
] as const;

runs.forEach(({ settings, expected }, run) => {
  const schedules = schedulesOf(settings);
  for (const [column, name] of columns) {
    test(`run ${run}: ${column} of every iteration as in Python`, () => {
      const values = expected[column] ?? [];
      assert.is(values.length, (settings['iterations_per_epoch'] ?? 0) * (settings['train.epochs'] ?? 0));
      values.forEach((value, i) => {
        // Both compute the formula in float64; the cosine may differ in its last place.
        const error = Math.abs(schedules[name](i) - value);
        assert.ok(error <= 1e-15 + 1e-14 * Math.abs(value), `iteration ${i}: ${schedules[name](i)}, expected ${value}`);
      });
    });
  }
});

test('warm-up includes both ends; one iteration alone has the start', () => {
  const three = linearWarmup({ start: 1, end: 2, warmup: 3 });
  assert.equal([0, 1, 2, 3, 4].map(three), [1, 1.5, 2, 2, 2]);
  assert.equal([0, 1].map(linearWarmup({ start: 1, end: 2, warmup: 1 })), [1, 2]);
  assert.equal([0, 1].map(linearWarmup({ start: 1, end: 2, warmup: 0 })), [2, 2]);
});

test('what a schedule says reaches the device to within a rounding, the last steps of the teacher as well', () => {
  const graph = new Graph();
  const scalars = stepScalars(graph);
  const { lr, weightDecay, momentum, teacherTemp } = schedulesOf(runs[0]!.settings);
  const sent = new Map<Scalar, number>();
  const setScalar = (scalar: Scalar, value: number) => void sent.set(scalar, Math.fround(value));
  const close = (scalar: Scalar, value: number) =>
    assert.ok(Math.abs(sent.get(scalar)! - value) <= 2 ** -24 * value, `${sent.get(scalar)}, expected ${value}`);
  const end = runs[0]!.expected['momentum']!.length;
  for (const i of [0, end / 2, end - 0.01]) {
    const values = { lr: lr(i), weightDecay: weightDecay(i), momentum: momentum(i), teacherTemp: teacherTemp(i) };
    setStepValues({ setScalar }, scalars, { step: i + 1, ...values });
    close(scalars.lr, values.lr);
    close(scalars.weightDecay, values.weightDecay);
    close(scalars.teacherTemp, values.teacherTemp);
    close(scalars.teacherRate, 1 - values.momentum);
    close(scalars.correction2, 1 - 0.999 ** (i + 1));
  }
});

test('positions between iterations lie between their values, and past the end is the end', () => {
  const lr = cosineSchedule({ base: 1, final: 0.1, warmup: 4, total: 12 });
  for (let i = 0; i < 12; i++) {
    const [low, high] = [Math.min(lr(i), lr(i + 1)), Math.max(lr(i), lr(i + 1))];
    assert.ok(lr(i + 0.5) >= low && lr(i + 0.5) <= high, `between ${i} and ${i + 1}`);
  }
  assert.is(lr(12), 0.1);
  assert.is(lr(1000), 0.1);
});

test('by the share of the run it is the limit of many iterations', () => {
  const total = 1_000_000;
  const settings = { base: 2e-3, final: 1e-6 };
  const byCount = cosineSchedule({ ...settings, warmup: 0.1 * total, total });
  const byShare = cosineSchedule({ ...settings, warmup: 0.1, total: 1, iteration: 0 });
  for (const share of [0, 0.03, 0.1, 0.5, 0.99, 1])
    assert.ok(Math.abs(byShare(share) - byCount(share * total)) < 1e-4 * 2e-3);
});

test('a run that is all warm-up ends at the final value', () => {
  const lr = cosineSchedule({ base: 1, final: 0.1, warmup: 5, total: 5 });
  assert.is(lr(4), 1);
  assert.is(lr(5), 0.1);
});

/** The clock of a run with these settings; 5 steps an epoch, a rate of 2e-3 after scaling. */
function clockOf(...length: readonly string[]) {
  const rate = ['optim.lr=1e-3', 'train.batch_size=512', 'optim.min_lr=1e-5'];
  const others = ['optim.weight_decay=0.04', 'optim.weight_decay_end=0.4', 'optim.momentum_teacher=0.996'];
  const temperature = ['sop.teacher_temp=0.07', 'sop.teacher_temp_warmup=0.04'];
  return runClock(resolveConfig([commandLineLayer([...rate, ...others, ...temperature, ...length], [])]), 5);
}

const near = (got: number | undefined, expected: number): void =>
  assert.ok(Math.abs((got ?? Number.NaN) - expected) <= 1e-14 * expected, `${got}, expected ${expected}`);

test('a run of steps: warm-ups as long as they are asked for, then to the end, and no step after it', () => {
  const clock = clockOf('train.steps=40', 'optim.warmup=0.25', 'sop.teacher_temp_warmup_epochs=2');
  assert.equal([clock.totalSteps, clock.totalSeconds], [40, null]);
  const at = (done: number) => clock.values(done, 1e9)!;
  assert.equal([at(0).step, at(0).lr, at(0).teacherTemp, at(39).step], [1, 0, 0.04, 40]);
  near(at(3).lr, (2e-3 * 3) / 9);
  near(at(3).teacherTemp, 0.04 + (0.03 * 3) / 9);
  for (const done of [9, 10]) assert.equal([at(done).lr, at(done).teacherTemp], [2e-3, 0.07]);
  near(at(25).lr, (2e-3 + 1e-5) / 2);
  near(at(20).weightDecay, (0.04 + 0.4) / 2);
  near(at(20).momentum, (0.996 + 1) / 2);
  assert.is(clock.values(40, 0), null);
});

test('epochs are so many steps; a warm-up in epochs is that of the same share', () => {
  const clocks = [
    clockOf('train.steps=40', 'optim.warmup=0.25', 'sop.teacher_temp_warmup_epochs=2'),
    clockOf('train.epochs=8', 'optim.warmup_epochs=2', 'sop.teacher_temp_warmup_epochs=2'),
  ];
  const [bySteps, byEpochs] = clocks.map(({ values }) => Array.from({ length: 41 }, (_, done) => values(done, 0)));
  assert.equal(byEpochs, bySteps);
});

test('a run by the clock: the share of its time that is over, whatever steps were done', () => {
  const clock = clockOf('train.minutes=2', 'optim.warmup=0.25', 'sop.teacher_temp_warmup_epochs=0');
  assert.equal([clock.totalSteps, clock.totalSeconds], [null, 120]);
  near(clock.values(3, 15)?.lr, 1e-3);
  const half = clock.values(7, 60)!;
  assert.is(half.step, 8);
  near(half.lr, 1e-5 + ((2e-3 - 1e-5) / 2) * (1 + Math.cos(Math.PI / 3)));
  near(half.weightDecay, (0.04 + 0.4) / 2);
  near(half.momentum, (0.996 + 1) / 2);
  assert.is(half.teacherTemp, 0.07);
  assert.ok(clock.values(7, 119.9));
  assert.is(clock.values(7, 120), null);
});

test.run();
