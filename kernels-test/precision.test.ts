import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import type { Gpu } from '../src/gpu/device.js';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import { halfToNumber, numberToHalf } from '../src/graph/half.js';
import { openNodeGpu } from '../src/node.js';
import { describePlan } from '../src/plan/report.js';
import { debugStep } from '../src/sop/debug-step.js';
import { describePrecision, type Training, traceTraining } from '../src/sop/training.js';
import { temporaryFolder } from './data-support.js';
import { fixture } from './fixtures-support.js';
import { atStep, greySet, interruptAt, type Line, metricsOf, sameRun, trainTiny } from './tiny-run.js';

/** Mixed precision (`--precision f16`): what is in f16, how near to f32 a step is, and the scale of its loss. */
const gpu = await openNodeGpu({ quiet: true });
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
const without: Gpu = { ...gpu, target: { ...gpu.target, f16: false } };

/** A test that computes in f16. */
function testInHalf(name: string, body: () => Promise<void>): void {
  if (gpu.target.f16) test(name, body);
  else console.log(`NOT RUN: ${name}: ${gpu.target.name} has no shader-f16`);
}

async function training(target: Target, ...set: string[]): Promise<Training> {
  const config = await configFrom({ preset: 'vit-s', set: ['train.batch_size=16', ...set] });
  return traceTraining(config, { channels: 3, mean: [0, 0, 0], std: [1, 1, 1], residentBytes: null }, target);
}

test('f16 numbers: every one of them comes back, others become the nearest, of two the even one', () => {
  for (let bits = 0; bits < 0x10000; bits++) {
    const value = halfToNumber(bits);
    if (!Number.isNaN(value)) assert.is(numberToHalf(value), bits);
    else assert.ok(Number.isNaN(halfToNumber(numberToHalf(value))));
  }
  for (let bits = 0; bits < 0x7c00; bits++) {
    const [below, above] = [halfToNumber(bits), bits === 0x7bff ? 65536 : halfToNumber(bits + 1)];
    const middle = (below + above) / 2;
    const even = bits % 2 ? bits + 1 : bits;
    assert.equal([numberToHalf(middle), numberToHalf(-middle)], [even, even | 0x8000]);
    assert.equal([middle * (1 - 2 ** -23), middle * (1 + 2 ** -23)].map(numberToHalf), [bits, bits + 1]);
  }
});

test('what flows between the layers of the backbones is f16; weights, sums, normalisations, head and losses are f32', async () => {
  const half = { ...defaultTarget, f16: true };
  const { graph, plan } = await training(half, 'train.precision=f16');
  const isIn = (scope: RegExp, dtype: string) =>
    graph.nodes.filter((node) => scope.test(node.scope) && node.outputs.some((tensor) => tensor.dtype === dtype));
  // All that a block writes in f32: statistics and gradients of norms, lse of attention, gradients of weights and biases.
  const ops = (nodes: readonly { readonly op: { readonly name: string } }[]) => [
    ...new Set(nodes.map(({ op }) => op.name)),
  ];
  const own = /^(student|teacher)\.blocks|^(student|teacher)$/;
  const whole = isIn(own, 'f32').filter(({ outputs }) => !outputs.some(({ dtype }) => dtype === 'f16'));
  assert.equal(ops(whole).sort(), ['matmul', 'pos_resample', 'pos_resample_backward']);
  for (const { outputs, inputs } of whole.filter(({ op }) => op.name === 'matmul'))
    assert.ok(inputs.every(({ dtype }) => dtype === 'f16') && outputs.length === 2, 'a gradient of weights and bias');
  assert.equal(isIn(/head|sop|optim|memory/, 'f16'), []);
  assert.ok(graph.tensors.every(({ storage, dtype }) => dtype !== 'f16' || storage === 'computed'));
  assert.ok(plan.launches.some(({ kernel }) => kernel.source.startsWith('enable f16;')));
});

test('activations take half of the memory, and plan says so', async () => {
  const half = { ...defaultTarget, f16: true };
  const [whole, halved] = [await training(half), await training(half, 'train.precision=f16')];
  const activations = ({ plan }: Training): number => describePlan(plan).memory.groups.get('activations') ?? 0;
  const share = activations(halved) / activations(whole);
  // Besides what is halved there are the head and the prototypes.
  assert.ok(share < 0.56, `${share} of those in f32`);
  assert.is(describePrecision(whole), null);
  assert.match(describePrecision(halved)?.text ?? '', /^f16 for activations/);
});

test('an adapter without shader-f16 computes in f32 and says so, with the bits of f32', async () => {
  const refused = await training(defaultTarget, 'train.precision=f16');
  assert.equal(describePrecision(refused), {
    text: `computed in f32, not in f16: ${defaultTarget.name} has no shader-f16`,
    refused: true,
  });
  const lines: string[] = [];
  const options = { data: grey, length: { steps: '2' } };
  const [plain, asked] = [join(folder, 'plain'), join(folder, 'asked')];
  await trainTiny(without, plain, options);
  await trainTiny(without, asked, { ...options, set: ['train.precision=f16'], onLine: (line) => lines.push(line) });
  sameRun(asked, plain);
  assert.is(lines.filter((line) => /warning: computed in f32, not in f16: .* has no shader-f16/.test(line)).length, 1);
});

/** |a - b| / |b|, as vectors. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return Math.sqrt(difference / (size || 1));
}

for (const name of ['step-avgpatch.input', 'step-memory.input', 'step-multicrop.input']) {
  testInHalf(`gradients and losses of ${name} in f16 are near those in f32`, async () => {
    const { tensors, metadata } = fixture(name);
    const run = async (...settings: [string, string][]) =>
      new Map((await debugStep(gpu, tensors, new Map([...metadata, ...settings]), name)).map((a) => [a.name, a]));
    const [whole, half] = [await run(), await run(['train.precision', 'f16'])];
    // Embeddings of unit norm come out one step of f16 off, 2^-10, after the roundings of all layers; logits, probabilities
    // and what flows back from them are the temperature's reciprocal times as far off, losses as their logarithms.
    const bound = 2 ** -10 / Number(metadata.get('sop.teacher_temp'));
    let checked = 0;
    for (const [key, { data }] of whole) {
      const got = half.get(key)?.data as Float32Array;
      if (!/^(grad\.|loss|prob\.|student\.|teacher\.)/.test(key)) continue;
      checked++;
      const error = distance(got, data as Float32Array);
      assert.ok(error <= (/^(student|teacher)\./.test(key) ? 2 ** -9 : bound), `${key}: ${error} of its norm`);
      // A step that computes in f32 after all would be nearer.
      if (key === 'student.cls') assert.ok(error > 1e-5, `${error}`);
    }
    assert.ok(checked > 30);
    assert.equal([...(half.get('updated.loss_scale_counts')?.data ?? [])], [1, 0]);
  });
}

const inHalf = (...more: string[]) => ['train.precision=f16', 'optim.lr=0.05', ...more];
const losses = (lines: readonly Line[]): number[] => lines.map(({ loss }) => Number(loss));

testInHalf('fifty steps learn as in f32', async () => {
  const [whole, half] = [join(folder, 'whole'), join(folder, 'half')];
  const options = { data: grey, length: { steps: '50' } };
  // A scale at which no step is skipped: after one that was, the weights would be those of a step before. And no neighbours:
  // of two that are nearly as similar a rounding picks the other one, and the loss of that step is another.
  const neighbours = ['sop.cls.neighbours=0', 'sop.patch.neighbours=0'];
  const set = ['optim.lr=0.05', 'model.init_std=fan-in', 'train.loss_scale=256', ...neighbours];
  await trainTiny(gpu, whole, { ...options, set });
  await trainTiny(gpu, half, { ...options, set: [...set, 'train.precision=f16'] });
  const [expected, { stepLines }] = [losses(metricsOf(whole).stepLines), metricsOf(half)];
  // A rounding of f16, 2^-11, times the reciprocal of the temperature, 25, as for one step: they do not add up.
  const far = losses(stepLines).map((loss, i) => Math.abs(loss / expected[i]! - 1));
  assert.ok(Math.max(...far) < 25 * 2 ** -11, `${Math.max(...far)}`);
  assert.ok(losses(stepLines).some((loss, i) => loss !== expected[i]));
  assert.ok(stepLines.every((line) => line['loss_scale'] === 256 && line['skipped_steps'] === 0));
  assert.ok(metricsOf(whole).stepLines.every((line) => !('loss_scale' in line)));
});

testInHalf(
  'an overflow skips the step, halves the scale, is counted and told; a resumed run goes on with the same bits',
  async () => {
    const [whole, cut] = [join(folder, 'overflow'), join(folder, 'overflow-cut')];
    const lines: string[] = [];
    const options = { data: grey, length: { steps: '12' }, set: inHalf(`train.loss_scale=${2 ** 24}`) };
    await trainTiny(gpu, whole, { ...options, onLine: (line) => lines.push(line) });
    const { stepLines } = metricsOf(whole);
    assert.is(stepLines.length, 12);
    const skipped = stepLines.filter((line) => 'skipped' in line);
    const last = stepLines.at(-1)!;
    assert.ok(skipped.length > 0 && skipped.length < 12, `${skipped.length} steps were skipped`);
    assert.is(last['skipped_steps'], skipped.length);
    assert.is(last['loss_scale'], 2 ** (24 - skipped.length));
    for (const { skipped: why, update_norm } of skipped) {
      assert.match(String(why), /^gradient of student\./);
      assert.is(update_norm, 0);
    }
    // The first update has no fewer averaged gradients for the steps that were skipped before: it is as large, for its rate, as
    // the first one of a run that skips none, sign by sign the learning rate.
    const small = join(folder, 'no-overflow');
    await trainTiny(gpu, small, { ...options, length: { steps: '1' }, set: inHalf('train.loss_scale=256') });
    const size = (line: Line): number => Number(line['update_norm']) / Number(line['lr']);
    const early = skipped.filter(({ step }, i) => step === i + 1).length;
    assert.ok(early > 1, `${early} steps were skipped at the start`);
    const relative = size(stepLines[early]!) / size(metricsOf(small).stepLines[0]!);
    assert.ok(Math.abs(relative - 1) < 0.02, `${relative} of the size of a first update`);
    // Nothing but the scale changes in a skipped step: the norm of the parameters after it is that after the step before.
    const still = stepLines
      .slice(1)
      .filter(({ step, param_norm }) => stepLines[step - 2]!['param_norm'] === param_norm);
    const later = skipped.filter(({ step }) => step > 1);
    assert.equal(
      still.map(({ step }) => step),
      later.map(({ step }) => step),
    );
    assert.is(
      lines.filter((line) => /step \d+ was skipped: gradient of \S+ overflows at loss scale \d+, now \d+/.test(line))
        .length,
      skipped.length,
    );

    await trainTiny(gpu, cut, { ...options, onLine: interruptAt(3) });
    assert.ok(metricsOf(cut).stepLines.length < 12);
    await trainTiny(gpu, cut, { ...options, resume: true });
    sameRun(cut, whole);

    // Over an adapter without f16: the scale and its count wait there for the next one that has it.
    const detour = join(folder, 'overflow-detour');
    await trainTiny(gpu, detour, { ...options, onLine: interruptAt(3) });
    const before = metricsOf(detour).stepLines.at(-1)!;
    assert.ok(Number(before['skipped_steps']) > 0);
    await trainTiny(without, detour, { ...options, resume: true, onLine: interruptAt(before.step + 2) });
    await trainTiny(gpu, detour, { ...options, resume: true });
    const after = metricsOf(detour).stepLines.filter((line) => 'loss_scale' in line && line.step > before.step);
    assert.ok(after.length > 0, 'no step in f16 is left');
    assert.ok(Number(after[0]!['skipped_steps']) >= Number(before['skipped_steps']), JSON.stringify(after[0]));
    assert.ok(Number(after[0]!['loss_scale']) <= Number(before['loss_scale']), JSON.stringify(after[0]));
  },
);

testInHalf('at a scale of 1 a gradient that is not finite ends the run as in f32', async () => {
  const out = join(folder, 'genuine');
  const set = inHalf('train.loss_scale=1', 'data.mean=0', 'data.std=1e-7');
  await trainTiny(gpu, out, { data: grey, length: { steps: '2' }, set }).then(
    () => assert.unreachable('the run ended well'),
    (error: unknown) => assert.match((error as Error).message, /not finite \((loss|gradient of \S+), step 1\)/),
  );
});

testInHalf('accumulated gradients and blocks that are computed again: the same steps in f16', async () => {
  const run = async (name: string, ...more: string[]): Promise<number[]> => {
    const out = join(folder, name);
    await trainTiny(gpu, out, {
      data: grey,
      length: { steps: '3' },
      set: inHalf(...more),
      onLine: atStep(9, () => {}),
    });
    return losses(metricsOf(out).stepLines);
  };
  assert.equal(await run('again', 'train.checkpoint_blocks=true'), await run('kept'));
  assert.ok((await run('accumulated', 'optim.accumulate=2')).every(Number.isFinite));
});

test.run();
