import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkpointMetadata } from '../src/data/checkpoint.js';
import { readSafetensorsFile } from '../src/data/node/files.js';
import { openDataset } from '../src/data/node/open.js';
import { decodeSafetensors, encodeSafetensors, type NamedArray } from '../src/data/safetensors.js';
import { preprocess } from '../src/eval/preprocess.js';
import { IMAGENET } from '../src/eval/weights.js';
import type { VitShape } from '../src/nn/vit.js';
import { failsWith, succeeds } from './cli-support.js';
import { assertClose } from './compare.js';
import { picture, temporaryFolder, writeTree } from './data-support.js';
import { EPSILON } from './declare.js';
import { projectFile } from './project.js';
import { randomWeights, referenceFeature } from './vit-support.js';

/** The commands around a trained model, end to end: 40 small images, a random encoder. */

const folder = temporaryFolder();
const path = (name: string): string => join(folder, name);
const vit: VitShape = {
  width: 64,
  depth: 1,
  heads: 1,
  mlpRatio: 2,
  patch: 8,
  channels: 3,
  imageSize: 16,
  initStd: 0.02,
};
const classes = ['bee', 'cat', 'dog', 'eel'];

/** Images of a class are noise around its colour: what any encoder, and pixels, can tell apart. */
async function makeImages(): Promise<void> {
  const files: Record<string, Uint8Array> = {};
  for (const [label, name] of classes.entries()) {
    for (let i = 0; i < 10; i++) {
      const part = i < 6 ? 'train' : 'val';
      const colour = [60 * label + 4 * i, 240 - 60 * label, 20 + 50 * ((label * 2 + i) % 3)];
      files[`${part}/${name}/${i}.png`] = await picture(16, 16, 3, 1, colour).png().toBuffer();
    }
  }
  writeTree(path('images'), files);
}

const save = (
  name: string,
  arrays: readonly NamedArray[],
  metadata: Iterable<readonly [string, string]> = [],
): string => {
  writeFileSync(path(name), encodeSafetensors(arrays, metadata));
  return path(name);
};
const json = (name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path(name), 'utf8')) as Record<string, unknown>;

await makeImages();
const images = path('images');
const arrays = randomWeights(vit);
const weights = save('vit.safetensors', arrays);

test('eval knn: train and val of one folder are gallery and queries', async () => {
  const out = await succeeds(
    'eval',
    'knn',
    '--weights',
    weights,
    '--data',
    images,
    '--k',
    '1,5,10,100',
    '--json',
    path('knn.json'),
  );
  const result = json('knn.json');
  assert.equal([result['gallery'], result['queries'], result['leave_one_out']], [24, 16, false]);
  const { top1, top5 } = result as { top1: Record<string, number>; top5: Record<string, number> };
  assert.equal(Object.keys(top1), ['1', '5', '10']);
  for (const [k, value] of Object.entries(top1))
    assert.ok(value > 60 && value <= 100 && value <= top5[k]!, `${k}: ${value}`);
  assert.is(top1[String(result['best_k'])], Math.max(...Object.values(top1)));
  assert.ok(String(result['adapter']).length > 0);
  assert.match(out, /left out: k = 100/);
});

test('eval knn: a set of one part votes on itself; classes of other queries go by name', async () => {
  const out = await succeeds(
    'eval',
    'knn',
    '--weights',
    weights,
    '--data',
    join(images, 'train'),
    '--k',
    '3',
    '--json',
    path('one.json'),
  );
  assert.match(out, /each left out/);
  assert.equal([json('one.json')['queries'], json('one.json')['leave_one_out']], [24, true]);
  // Without `bee` the queries number their classes differently; and `ant` the gallery has never seen.
  const files: Record<string, Uint8Array> = {};
  for (const name of classes.slice(1)) files[`${name}/q.png`] = readFileSync(join(images, 'train', name, '0.png'));
  files['ant/q.png'] = readFileSync(join(images, 'train', 'bee', '0.png'));
  writeTree(path('queries'), files);
  const argv = ['eval', 'knn', '--weights', weights, '--data', join(images, 'train'), '--queries', path('queries')];
  const named = await succeeds(...argv, '--set', 'eval.k=1', '--json', path('named.json'));
  assert.equal([json('named.json')['top1'], json('named.json')['classes']], [{ 1: 75 }, classes.length]);
  assert.ok(named.includes(`24 images, ${classes.length} classes`), named);
});

test('eval knn: untrained encoders and raw pixels by the same protocol', async () => {
  const common = ['eval', 'knn', '--data', images, '--k', '5'];
  await succeeds(...common, '--weights', weights, '--untrained', '--set', 'train.seed=7', '--json', path('seed7.json'));
  assert.is(json('seed7.json')['features'], 'untrained');
  await succeeds(...common, '--pixels', '--json', path('pixels.json'));
  assert.is(json('pixels.json')['features'], 'pixels');
  assert.ok((json('pixels.json') as { top1: Record<string, number> }).top1['5']! > 60);
  await failsWith(64, [...common, '--pixels', '--untrained'], /given together/);
  await failsWith(64, [...common, '--pixels', '--set', 'no.such=1'], /unknown key no\.such/);
});

test('embed: raw features of the formula, names and labels beside them', async () => {
  await succeeds('embed', '--weights', weights, '--data', images, '--split', 'test', '--output', path('features.npy'));
  const bytes = readFileSync(path('features.npy'));
  const head = bytes.subarray(10, 10 + bytes.readUInt16LE(8)).toString('latin1');
  assert.match(head, /'<f4'.*\(16, 64\)/);
  const values = new Float32Array(
    bytes.buffer.slice(bytes.byteOffset + 10 + head.length, bytes.byteOffset + bytes.length),
  );
  const { test: set } = await openDataset(images);
  const expected: number[] = [];
  for (let i = 0; i < 16; i++) {
    const pixels = preprocess(await set!.read(i), { channels: 3, size: 16, ...IMAGENET });
    expected.push(...referenceFeature(vit, arrays, pixels));
  }
  // As in weights.test.ts.
  assertClose('features', { shape: [16, 64], dtype: 'f32' }, values, expected, 128 * EPSILON);
  const beside = json('features.json');
  assert.equal([beside['files'], beside['labels'], beside['classes']], [set!.files, [...set!.labels!], classes]);

  await succeeds('embed', '--weights', weights, '--data', images, '--output', path('all.safetensors'));
  const { tensors } = await readSafetensorsFile(path('all.safetensors'));
  assert.equal([tensors.get('features')?.shape, tensors.get('labels')?.shape], [[24, 64], [24]]);
});

test('embed: what cannot be written or used is told before any work', async () => {
  const common = ['embed', '--weights', weights, '--data', images];
  await failsWith(64, [...common, '--output', path('x.csv')], /\.npy or \.safetensors/);
  await failsWith(73, [...common, '--output', path('missing/x.npy')], /missing/);
  await failsWith(
    66,
    ['embed', '--weights', path('none.safetensors'), '--data', images, '--output', path('x.npy')],
    /none/,
  );
  await failsWith(
    66,
    ['embed', '--weights', weights, '--data', join(images, 'val'), '--split', 'test', '--output', path('x.npy')],
    /--split/,
  );
  await failsWith(64, ['embed', '--data', images, '--output', path('x.npy')], /--run/);
  const notHuggingFace = ['embed', '--weights', images, '--data', images, '--output', path('x.npy')];
  await failsWith(66, notHuggingFace, /model\.safetensors\): it does not exist/, /that of a run by --run/);
  assert.not(existsSync(path('x.npy')));
  assert.not(existsSync(path('x.json')));
});

test('embed: the list of names and --json are two files', async () => {
  const common = ['embed', '--weights', weights, '--data', images, '--output', path('y.npy')];
  await failsWith(64, [...common, '--json', join(path('.'), '.', 'y.json')], /share a file/);
  await failsWith(64, [...common, '--json', path('y.npy')], /--json and --output share a file/);
});

test('settings of the command line are checked against the weights', async () => {
  const common = ['export', '--weights', weights, '--output', path('never.safetensors')];
  await failsWith(64, [...common, '--set', 'model.heads=5'], /divisor of model\.width 64/);
  await failsWith(64, [...common, '--set', 'model.width=128'], /has 64/);
  await failsWith(64, [...common, '--set', 'model.mlp_ratio=2.01'], /has 2, .* 2\.01/);
  await failsWith(64, [...common, '--set', 'model.headz=2'], /did you mean model\.heads/);
  writeFileSync(path('tiny.yaml'), 'model: { arch: tiny, patch_size: 8, image_size: 16 }\n');
  await failsWith(78, [...common, '--config', path('tiny.yaml')], /model\.width/);
  assert.not(existsSync(path('never.safetensors')));
});

test('export: timm and Hugging Face, with all that their readers must know', async () => {
  // 128.4 rounds to the 128 of the file, as it does for `train`.
  const rounded = ['--set', 'model.mlp_ratio=2.006'];
  await succeeds('export', '--weights', weights, '--output', path('copy.safetensors'), ...rounded);
  const copy = decodeSafetensors(readFileSync(path('copy.safetensors')));
  for (const array of arrays) assert.equal(copy.tensors.get(array.name), array);
  assert.is(copy.tensors.size, arrays.length);
  assert.equal(
    ['model.heads', 'model.image_size', 'data.mean'].map((key) => copy.metadata.get(key)),
    ['1', '16', '0.485, 0.456, 0.406'],
  );

  await succeeds('export', '--weights', weights, '--format', 'hf', '--output', path('hf'), '--set', 'model.heads=4');
  assert.equal([json('hf/config.json')['hidden_size'], json('hf/config.json')['num_attention_heads']], [64, 4]);
  assert.equal(json('hf/preprocessor_config.json')['crop_size'], { height: 16, width: 16 });
  await succeeds('export', '--weights', path('hf'), '--output', path('back.safetensors'));
  const back = decodeSafetensors(readFileSync(path('back.safetensors')));
  for (const array of arrays) assert.equal(back.tensors.get(array.name), array);
  assert.is(back.metadata.get('model.heads'), '4');
});

test('a run: its exported teacher, else its best checkpoint, else the last', async () => {
  const run = path('run');
  mkdirSync(join(run, 'checkpoints'), { recursive: true });
  mkdirSync(join(run, 'export'));
  await failsWith(66, ['export', '--run', run, '--output', path('r.safetensors')], /neither/);
  const networks = (teacher: number, student: number): NamedArray[] => [
    ...randomWeights(vit, teacher).map((array) => ({ ...array, name: `teacher.${array.name}` })),
    ...randomWeights(vit, student).map((array) => ({ ...array, name: `student.${array.name}` })),
  ];
  const exported = async (...more: string[]): Promise<unknown> => {
    await succeeds('export', '--run', run, '--output', path('r.safetensors'), ...more);
    const { tensors, metadata } = decodeSafetensors(readFileSync(path('r.safetensors')));
    return [tensors.get('cls_token')?.data, metadata.get('step')];
  };
  const token = (seed: number): unknown => randomWeights(vit, seed)[0]?.data;
  save('run/checkpoints/last.safetensors', networks(1, 2), checkpointMetadata(9, [['model.heads', '2']]));
  assert.equal(await exported(), [token(1), '9']);
  save('run/checkpoints/best.safetensors', networks(3, 4), checkpointMetadata(5, []));
  assert.equal(await exported(), [token(3), '5']);
  assert.equal(await exported('--network', 'student'), [token(4), '5']);
  save('run/export/teacher.safetensors', randomWeights(vit, 5), [['step', '9']]);
  assert.equal(await exported(), [token(5), '9']);
  assert.equal(await exported('--network', 'student'), [token(4), '5']);
});

test('plan needs no device and counts what the paper counts', async () => {
  const out = await succeeds('plan', '--preset', 'vit-s', '--batch-size', '2', '--json', path('plan.json'));
  for (const part of ['21.67 M backbone', 'activations', 'evaluation', 'host: ', 'matmul', "WebGPU's defaults"])
    assert.ok(out.includes(part), part);
  const plan = json('plan.json') as {
    parameters: { backbone: number };
    memory: { total: number; unplanned: number; groups: Record<string, number> };
    work: { flops: number; families: { flops: number }[] };
    dispatches: number;
  };
  assert.is(plan.parameters.backbone, 21_665_664);
  assert.is(
    Object.values(plan.memory.groups).reduce((a, b) => a + b),
    plan.memory.total,
  );
  assert.ok(plan.memory.unplanned > plan.memory.total);
  assert.is(
    plan.work.families.reduce((sum, { flops }) => sum + flops, 0),
    plan.work.flops,
  );
  assert.ok(plan.dispatches > 100);
  assert.not.match(out, /recomputed/);
  const again = ['--set', 'train.checkpoint_blocks=true', '--set', 'model.depth=1', '--batch-size', '2'];
  assert.match(await succeeds('plan', ...again), /^recomputed {2}[\d.]+ GFLOP of the forward pass once more/m);
});

test('plan divides a batch that exceeds the default limits, and says what no division makes fit', async () => {
  const plan = (...more: string[]): Promise<string> =>
    succeeds('plan', '--preset', 'vit-b', '--set', 'model.depth=1', '--json', path('large.json'), ...more);
  assert.match(
    await plan('--batch-size', '64'),
    /64 images in 5 parts of 12 or 13, .* need 573\.0 MiB in one binding \(student\.blocks\.0\.mlp\.fc1\/matmul/,
  );
  const { batches, fits } = json('large.json');
  assert.equal([batches, fits], [[13, 13, 13, 13, 12], true]);
  const out = await plan('--batch-size', '2', '--set', 'sop.cls.memory=262144');
  assert.match(
    out,
    /does not fit into these: memory\.cls \(it needs 256\.0 MiB in one binding \(268435456 bytes, shape .*\), .* allows 128\.0 MiB\)/,
  );
  assert.is(json('large.json')['fits'], false);
});

const fixture = (name: string): string => fileURLToPath(projectFile(`kernels-test/fixtures/${name}`));

test('debug step and debug augment: a file in, a file out', async () => {
  await succeeds(
    'debug',
    'step',
    '--input',
    fixture('step-onehot.input.safetensors'),
    '--output',
    path('step.safetensors'),
    '--json',
    path('step.json'),
  );
  const expected = await readSafetensorsFile(fixture('step-onehot.expected.safetensors'));
  const got = await readSafetensorsFile(path('step.safetensors'));
  assert.equal([...got.tensors.keys()].sort(), [...expected.tensors.keys()].sort());
  const loss = expected.tensors.get('loss')?.data[0];
  assert.ok(Math.abs(Number(json('step.json')['loss']) - Number(loss)) < 1e-5 * Number(loss));

  const augment = ['debug', 'augment', '--output', path('views.safetensors'), '--input'];
  await succeeds(...augment, fixture('augment-grey.input.safetensors'));
  const views = await readSafetensorsFile(path('views.safetensors'));
  const wanted = (await readSafetensorsFile(fixture('augment-grey.expected.safetensors'))).tensors.get('views');
  assert.equal(views.tensors.get('views')?.shape, wanted?.shape);
});

test('debug step names file and tensor of what is wrong', async () => {
  const { tensors, metadata } = await readSafetensorsFile(fixture('step-onehot.input.safetensors'));
  const without = [...tensors.values()].filter(({ name }) => name !== 'views.global');
  const file = save('broken.safetensors', without, metadata);
  await failsWith(
    65,
    ['debug', 'step', '--input', file, '--output', path('no.safetensors')],
    /broken\.safetensors/,
    /views\.global/,
  );
  assert.not(existsSync(path('no.safetensors')));
});

test.run();
