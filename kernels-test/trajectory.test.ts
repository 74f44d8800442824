import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openNodeGpu } from '../src/node.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { type DebugInput, readDebugInput } from '../src/sop/debug-input.js';
import { traceGivenStep, writeGivenState, writeGivenStep } from '../src/sop/debug-step.js';
import { stateEntries } from '../src/sop/state.js';
import { compare } from './compare.js';
import { fixture, fixtureValues } from './fixtures-support.js';

/**
 * Ten training steps replayed from one compiled plan, against an independent PyTorch float64 implementation
 * (fixtures/make_fixtures.py): views, masks, anchors, dropped branches and schedules of each step are given, and the state
 * goes from step to step on the device.
 */
const STEPS = 10;
/** Worst element of any step's losses, and of any state after the last, in units of its tensor's RMS. */
const TOLERANCE = 1e-4;
/** Of the learning rate: how exact an update must be wherever its gradient is not lost in rounding. */
const UPDATE_TOLERANCE = 0.01;
/** Of the RMS of a tensor's gradient: below it, AdamW makes up to a learning rate of rounding errors. */
const CLEAR_GRADIENT = 1e-3;

const [inputs, expected] = [fixture('trajectory.input'), fixture('trajectory.expected')];
const gpu = await openNodeGpu({ quiet: true });

/** The sums of learning rates by which a key bias may have wandered, of the student and of the teacher following it. */
const wander = { student: 0, teacher: 0 };
/** For each parameter: elements whose gradient was clear in every step so far. */
const clear = new Map<string, boolean[]>();

test('ten steps', async () => {
  const given = Array.from({ length: STEPS }, (_, i) => inputOfStep(i + 1));
  const first = given[0]!;
  const traced = traceGivenStep(first);
  const { graph, step } = traced;
  const [{ cls, patch }] = step.batches;
  const neighbours = { cls, patch };
  const losses = { loss: step.loss.total, loss_cls: step.loss.cls, loss_patch: step.loss.patch };
  const found = [...cls, ...patch].flatMap(({ prototypes }) => prototypes.neighbours?.index ?? []);
  const replay = new Replay(
    await compile(gpu, plan(graph, gpu.target, [...Object.values(losses), ...found, step.flag])),
  );
  try {
    writeGivenState(replay, step, first);
    for (const [i, input] of given.entries()) {
      writeGivenStep(replay, traced, input);
      await replay.run();
      const at = `step.${i + 1}`;
      assert.equal([...(await replay.read(step.flag))], [0], `${at}: not finite`);
      for (const [name, tensor] of Object.entries(losses)) close(`${at}.${name}`, await replay.read(tensor));
      for (const [name, tasks] of Object.entries(neighbours)) {
        const rows: number[] = [];
        for (const { prototypes } of tasks) rows.push(...(await replay.read(prototypes.neighbours!.index)));
        assert.equal(rows, [...fixtureValues(expected, `${at}.neighbours.${name}`)], `${at}: neighbours.${name}`);
      }
      for (const [name, tensor] of step.gradients) noteClear(name, await replay.read(tensor));
      const { lr, momentum } = input.values;
      wander.student += lr;
      wander.teacher += (1 - momentum) * wander.student;
      if (i > 0 && i < STEPS - 1) continue;
      for (const { name, tensor } of stateEntries(step, first.shape.network)) {
        if (!name.startsWith('moment')) checkState(`${at}.updated.${name}`, name, await replay.read(tensor));
      }
    }
  } finally {
    replay.destroy();
  }
});

test.run();

/** What `debug step` would be given for step `i`: the start of the run and what belongs to the step. */
function inputOfStep(i: number): DebugInput {
  const of = <T>(all: ReadonlyMap<string, T>, prefix: string): [string, T][] =>
    [...all].flatMap(([name, value]) => {
      if (name.startsWith(prefix)) return [[name.slice(prefix.length), value]];
      return /^steps?(\.|$)/.test(name) ? [] : [[name, value]];
    });
  const tensors = new Map(of(inputs.tensors, `step.${i}.`));
  const input = readDebugInput(tensors, new Map(of(inputs.metadata, `step.${i}.`)), `step ${i}`, gpu.target);
  // One plan serves all steps: its list of masked patches has room for the fullest one.
  const counts = Array.from({ length: STEPS }, (_, other) => {
    const { data } = inputs.tensors.get(`step.${other + 1}.masks`)!;
    return Array.from(data as Uint8Array).filter(Boolean).length;
  });
  const [batch] = input.shape.batches;
  return { ...input, shape: { ...input.shape, batches: [{ ...batch, maskedPatches: Math.max(...counts) }] } };
}

function close(name: string, got: ArrayLike<number>, theirs = fixtureValues(expected, name)) {
  const worst = compare(Float64Array.from(got), theirs);
  assert.ok(worst.error <= TOLERANCE, `${name}: ${worst.error} of the RMS at ${worst.index}, ${worst.got}`);
}

function noteClear(name: string, gradient: ArrayLike<number>): void {
  const values = Array.from(gradient);
  const rms = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  const before = clear.get(name);
  clear.set(
    name,
    values.map((value, i) => (before?.[i] ?? true) && Math.abs(value) > CLEAR_GRADIENT * rms),
  );
}

function checkState(key: string, name: string, data: ArrayLike<number>): void {
  const got = Float64Array.from(data);
  const theirs = fixtureValues(expected, key);
  const [network, ...rest] = name.split('.');
  const parameter = rest.join('.');
  // The true gradient of a key bias is 0, softmax does not see it: what AdamW makes of its rounding is no one's number.
  if ((network === 'student' || network === 'teacher') && parameter.endsWith('qkv.bias')) {
    const width = got.length / 3;
    for (let i = width; i < 2 * width; i++) {
      const off = Math.abs(got[i]! - theirs[i]!);
      assert.ok(off <= 1.01 * wander[network], `${key}: key bias ${i} is off by ${off}`);
      got[i] = theirs[i]!;
    }
  }
  close(key, got, theirs);
  if (network !== 'student') return;
  const bound = UPDATE_TOLERANCE * wander.student;
  got.forEach((value, i) => {
    const off = Math.abs(value - theirs[i]!);
    assert.ok(!clear.get(parameter)?.[i] || off <= bound, `${key}: element ${i} is off by ${off} of ${bound}`);
  });
}
