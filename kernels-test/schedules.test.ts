import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Graph } from '../src/graph/graph.js';
import type { Scalar } from '../src/graph/op.js';
import { cosineSchedule, linearWarmup, type RunSchedules, runSchedules, scaledRate } from '../src/optim/schedules.js';
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

test.run();
