import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NamedArray } from '../src/data/safetensors.js';
import { ExitCode } from '../src/errors.js';
import { Encoder } from '../src/eval/encoder.js';
import { huggingFaceExport, modelMetadata, timmTensors } from '../src/eval/export.js';
import { encoderBatch } from '../src/eval/features.js';
import { initFrom, initLines } from '../src/eval/init.js';
import { resamplePositions } from '../src/eval/positions.js';
import {
  IMAGENET,
  imageFormat,
  type LoadedWeights,
  openWeights,
  readWeights,
  type WeightOverrides,
} from '../src/eval/weights.js';
import { defaultTarget } from '../src/gpu/target.js';
import { openNodeGpu } from '../src/node.js';
import { studentSpecs } from '../src/sop/networks.js';
import { assertClose } from './compare.js';
import { fails } from './data-support.js';
import { EPSILON, Random } from './declare.js';
import { posResampleTests } from './pos_resample.js';
import { randomWeights, referenceFeature, unusual } from './vit-support.js';

const byName = (arrays: readonly NamedArray[]): Map<string, NamedArray> =>
  new Map(arrays.map((array) => [array.name, array]));
const none = new Map<string, string>();
const heads = { heads: 3 };

function load(
  arrays: readonly NamedArray[],
  overrides: WeightOverrides = {},
  metadata: ReadonlyMap<string, string> = none,
): LoadedWeights {
  return readWeights(openWeights(byName(arrays), metadata, 'my.safetensors'), overrides);
}

const zeros = (name: string, ...shape: number[]): NamedArray => ({
  name,
  dtype: 'F32',
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
});

test('a bare timm file needs no configuration: sizes follow from shapes', () => {
  const { vit, statistics, globalFeature, step, notes } = load(randomWeights(unusual), heads);
  assert.equal(vit, unusual);
  assert.equal([statistics, globalFeature, step, notes], [IMAGENET, 'cls', null, []]);
  const wide = { ...unusual, width: 128, heads: 2, mlpRatio: 4, depth: 1 };
  assert.equal(load(randomWeights(wide)).vit, wide, 'heads of 64 by default');
  // 22 (15 / 22) is 14.999999999999998, of which timm takes the whole part.
  const narrow = load(randomWeights({ ...unusual, width: 22, heads: 2, mlpRatio: 15 / 22 }), { heads: 2 });
  assert.equal([Math.floor(22 * narrow.vit.mlpRatio), Math.round(22 * narrow.vit.mlpRatio)], [15, 15]);
  const grey = load(randomWeights({ ...wide, channels: 1 }));
  assert.is(grey.statistics, null, "a grey encoder's statistics are those of its training set");
  assert.equal(imageFormat(grey, { mean: [0.25], std: [0.5] }), { channels: 1, size: 20, mean: [0.25], std: [0.5] });
});

test('the encoder computes what a float64 ViT computes from the same file', async () => {
  const arrays = randomWeights(unusual);
  const loaded = load(arrays, heads);
  const random = new Random(7);
  const images = Array.from({ length: 3 }, () => Float32Array.from({ length: 3 * 20 * 20 }, () => random.normal()));
  const gpu = await openNodeGpu({ quiet: true });
  // Two images a batch: the last batch is not full.
  const encoder = await Encoder.create(gpu, loaded, 2);
  encoder.load(loaded.weights);
  const features = await encoder.features(images.length, (i) => images[i]!);
  const expected = images.flatMap((image) => [...referenceFeature(unusual, arrays, image)]);
  // Some twenty roundings on the way of a feature, each amplified by at most the layer norms' gain of a few.
  assertClose('features', { shape: [3, 96], dtype: 'f32' }, features, expected, 128 * EPSILON);
  encoder.destroy();
  await gpu.close();
});

test('few images of a batch are decoded at a time', async () => {
  const loaded = load(randomWeights(unusual), heads);
  const gpu = await openNodeGpu({ quiet: true });
  const encoder = await Encoder.create(gpu, loaded, 16);
  encoder.load(loaded.weights);
  let [decoding, most] = [0, 0];
  await encoder.features(16, async () => {
    most = Math.max(most, ++decoding);
    await new Promise(setImmediate);
    decoding--;
    return new Float32Array(3 * 20 * 20);
  });
  assert.ok(most > 1 && most <= 4, `${most}`);
  encoder.destroy();
  await gpu.close();
});

test('halves, bfloat16 and doubles are widened', () => {
  const arrays = randomWeights(unusual).map((array): NamedArray => {
    const { name, shape, data } = array;
    if (name === 'norm.weight') return { name, shape, dtype: 'F16', data: new Uint16Array(data.length).fill(0x3e00) };
    if (name === 'norm.bias') return { name, shape, dtype: 'BF16', data: new Uint16Array(data.length).fill(0xc020) };
    if (name === 'cls_token') return { name, shape, dtype: 'F64', data: new Float64Array(data.length).fill(0.75) };
    return array;
  });
  const { weights } = load(arrays, heads);
  assert.equal(
    ['norm.weight', 'norm.bias', 'cls_token'].map((name) => weights.get(name)?.[5]),
    [1.5, -2.5, 0.75],
  );
});

test('classifiers are ignored with a note, parts that change the features are refused', async () => {
  const extra = [zeros('head.weight', 10, 96), zeros('head.bias', 10), zeros('fc_norm.weight', 96)];
  const { notes } = load([...randomWeights(unusual), ...extra], heads);
  assert.is(notes.length, 1);
  for (const { name } of extra) assert.ok(notes[0]?.includes(name));
  const scale = zeros('blocks.0.ls1.gamma', 96);
  await fails(() => load([...randomWeights(unusual), scale], heads), ExitCode.data, /blocks\.0\.ls1\.gamma/);
});

test('everything missing or of another shape is told in one error', async () => {
  const arrays = randomWeights(unusual)
    .filter(({ name }) => name !== 'norm.bias' && name !== 'blocks.1.attn.proj.weight')
    .map((array) => (array.name === 'blocks.0.mlp.fc2.bias' ? zeros(array.name, 95) : array))
    .map(
      (array): NamedArray =>
        array.name === 'norm.weight' ? { ...array, dtype: 'I32', data: new Int32Array(96) } : array,
    );
  await fails(
    () => load(arrays, heads),
    ExitCode.data,
    /my\.safetensors/,
    /missing: .*blocks\.1\.attn\.proj\.weight.*norm\.bias/,
    /blocks\.0\.mlp\.fc2\.bias \[95\], expected \[96\]/,
    /norm\.weight of type I32/,
  );
  await fails(
    () => load([zeros('conv1.weight', 3, 3)]),
    ExitCode.data,
    /missing: patch_embed\.proj\.weight, pos_embed/,
  );
  const flat = randomWeights(unusual).map((array) =>
    array.name === 'pos_embed' ? zeros('pos_embed', 1, 25, 96) : array,
  );
  await fails(() => load(flat, heads), ExitCode.data, /pos_embed is \[1, 25, 96\]/);
});

test('heads must be told where the width does not tell them', async () => {
  const arrays = randomWeights(unusual);
  await fails(() => load(arrays), ExitCode.usage, /model\.heads/, /--set model\.heads/);
  await fails(() => load(arrays, { heads: 5 }), ExitCode.usage, /5 do not divide width 96/);
  assert.is(load(arrays, {}, new Map([['model.heads', '6']])).vit.heads, 6);
  assert.is(load(arrays, heads, new Map([['model.heads', '6']])).vit.heads, 3, 'settings win over metadata');
});

test('what we write we read back: metadata says all that shapes do not', () => {
  const metadata = new Map([
    ['model.heads', '3'],
    ['model.global_feature', 'avg-patch'],
    ['model.init_std', 'fan-in'],
    ['data.mean', '[0.5]'],
    ['data.std', '0.1, 0.2, 0.3'],
    ['step', '1234'],
  ]);
  const first = load(randomWeights(unusual), {}, metadata);
  assert.equal(first.statistics, { mean: [0.5, 0.5, 0.5], std: [0.1, 0.2, 0.3] });
  const again = load(timmTensors(first), {}, modelMetadata(first));
  assert.equal(again, first);
  assert.equal([again.step, again.globalFeature, again.vit.initStd], [1234, 'avg-patch', 'fan-in']);
});

test('checkpoints of ours hold two networks', async () => {
  const prefixed = (prefix: string, seed: number): NamedArray[] =>
    [...randomWeights(unusual, seed), zeros('head.mlp.0.weight', 8, 96)].map((array) => ({
      ...array,
      name: prefix + array.name,
    }));
  const both = byName([
    ...prefixed('teacher.', 1),
    ...prefixed('student.', 2),
    zeros('student.masked_embed', 1, 96),
    zeros('memory.cls', 4, 8),
  ]);
  const read = (network?: 'teacher' | 'student') =>
    readWeights(openWeights(both, none, 'last.safetensors', network), heads);
  const expected = (seed: number) => randomWeights(unusual, seed)[0]?.data;
  assert.equal(read().weights.get('cls_token'), expected(1));
  assert.equal(read('student').weights.get('cls_token'), expected(2));
  assert.equal(read('student').notes, [], 'our own head and masked_embed are no surprise');
  const students = byName(prefixed('student.', 2));
  assert.equal(readWeights(openWeights(students, none, 'x'), heads).weights.get('cls_token'), expected(2));
  await fails(() => openWeights(students, none, 'x.safetensors', 'teacher'), ExitCode.data, /it has no teacher/);
  const exported = byName(randomWeights(unusual, 1));
  await fails(() => openWeights(exported, none, 'x', 'student'), ExitCode.usage, /one network alone/);
});

test('to Hugging Face and back nothing changes', () => {
  const loaded = load(randomWeights(unusual), heads);
  const { tensors, config, preprocessor } = huggingFaceExport(loaded);
  const names = tensors.map(({ name }) => name);
  assert.is(new Set(names).size, names.length);
  for (const name of [
    'embeddings.position_embeddings',
    'encoder.layer.1.attention.attention.query.weight',
    'layernorm.bias',
  ])
    assert.ok(names.includes(name), name);
  assert.equal(load(tensors, heads).weights, loaded.weights);
  assert.equal(
    load(
      tensors.map((array) => ({ ...array, name: `vit.${array.name}` })),
      heads,
    ).weights,
    loaded.weights,
  );
  // The module names of transformers 5, which its files do not have but its state_dict does.
  const modules = [
    ['encoder.layer.', 'layers.'],
    ['attention.attention.query', 'attention.q_proj'],
    ['attention.attention.key', 'attention.k_proj'],
    ['attention.attention.value', 'attention.v_proj'],
    ['attention.output.dense', 'attention.o_proj'],
    ['intermediate.dense', 'mlp.fc1'],
    ['output.dense', 'mlp.fc2'],
  ] as const;
  const newer = tensors.map((array) => ({
    ...array,
    name: modules.reduce((name, [old, now]) => name.replace(old, now), array.name),
  }));
  assert.ok(newer.some(({ name }) => name === 'layers.0.mlp.fc2.weight'));
  assert.equal(load(newer, heads).weights, loaded.weights);
  const wanted = {
    hidden_size: 96,
    num_hidden_layers: 2,
    num_attention_heads: 3,
    intermediate_size: 240,
    layer_norm_eps: 1e-6,
    image_size: 20,
    patch_size: 4,
    num_channels: 3,
    qkv_bias: true,
    hidden_act: 'gelu',
  };
  for (const [key, value] of Object.entries(wanted)) assert.is(config[key], value, key);
  assert.equal([preprocessor['image_mean'], preprocessor['crop_size']], [IMAGENET.mean, { height: 20, width: 20 }]);
});

test('query, key and value keep their order', () => {
  const loaded = load(randomWeights(unusual), heads);
  const { tensors } = huggingFaceExport(loaded);
  const key = tensors.find(({ name }) => name === 'encoder.layer.0.attention.attention.key.bias');
  assert.equal(key?.data, loaded.weights.get('blocks.0.attn.qkv.bias')?.slice(96, 192));
});

test('positions are resampled as the op resamples them', () => {
  const random = new Random(3);
  for (const [from, to] of [
    [5, 3],
    [2, 7],
    [4, 4],
  ] as const) {
    const pos = Float32Array.from({ length: (1 + from * from) * 6 }, () => random.normal());
    const reference = posResampleTests[0]!.reference({
      inputs: [Float64Array.from(pos)],
      specs: [],
      outputs: [{ shape: [1 + to * to, 6], dtype: 'f32' }],
      attrs: { from: [from, from], to: [to, to] },
      scalar: () => Number.NaN,
      wanted: () => true,
    });
    // Computed in float64, rounded once.
    assertClose(
      `${from} to ${to}`,
      { shape: [], dtype: 'f32' },
      resamplePositions(pos, 6, from, to),
      reference[0]!,
      8 * EPSILON,
    );
  }
  const { vit, weights, notes } = load(randomWeights(unusual), { ...heads, imageSize: 28 });
  assert.equal([vit.imageSize, weights.get('pos_embed')?.length], [28, (1 + 49) * 96]);
  assert.match(notes.join(), /from 5 x 5 to 7 x 7/);
});

test('a size that the patch does not divide is refused', async () => {
  await fails(() => load(randomWeights(unusual), { ...heads, imageSize: 22 }), ExitCode.usage, /model\.image_size/);
});

const network = { vit: unusual, head: { hidden: 16, layers: 2, out: 8 }, globalFeature: 'cls' } as const;

test('initial weights from elsewhere: what matched, what is missing, what is unexpected', async () => {
  const specs = studentSpecs(network);
  const foreign = randomWeights({ ...unusual, imageSize: 28 });
  const result = initFrom(byName([...foreign, zeros('head.weight', 10, 96)]), specs, 'vit.safetensors');
  assert.is(result.matched.length, foreign.length);
  assert.equal([...result.missing].sort(), [
    'head.mlp.0.bias',
    'head.mlp.0.weight',
    'head.mlp.2.bias',
    'head.mlp.2.weight',
    'masked_embed',
  ]);
  assert.equal([result.unexpected, result.resampled], [['head.weight'], [7, 5]]);
  for (const { name, shape } of specs) {
    const values = result.weights.get(name);
    if (values)
      assert.is(
        values.length,
        shape.reduce((a, b) => a * b, 1),
        name,
      );
  }
  assert.equal(result.weights.get('norm.bias'), foreign.at(-1)?.data);
  const text = initLines(result, 'vit.safetensors').join('\n');
  for (const part of ['30 of 35', '7 x 7 to 5 x 5', 'masked_embed', 'head.weight'])
    assert.ok(text.includes(part), `${part} in ${text}`);
  await fails(
    () => initFrom(byName(randomWeights({ ...unusual, width: 48 })), specs, 'vit.safetensors'),
    ExitCode.data,
    /vit\.safetensors/,
    /cls_token \[1, 1, 48\], expected \[1, 1, 96\]/,
  );
  await fails(() => initFrom(byName([zeros('a', 2)]), specs, 'x'), ExitCode.data, /no tensor has the name/);
});

test('weights with NaN or infinity are refused, naming the tensor: they would spread into whatever is made of them', async () => {
  for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
    const arrays = randomWeights(unusual);
    const named = byName(arrays);
    (named.get('norm.bias')!.data as Float32Array)[5] = bad;
    const complaint = new RegExp(`tensor "norm\\.bias" holds ${bad} at element 5`);
    await fails(() => load(arrays, heads), ExitCode.data, complaint);
    await fails(() => initFrom(named, studentSpecs(network), 'vit.safetensors'), ExitCode.data, complaint);
  }
});

test('initial weights from a checkpoint of ours take the head too', () => {
  const specs = studentSpecs(network);
  const teacher = specs
    .filter(({ name }) => name !== 'masked_embed')
    .map(({ name, shape }) => zeros(`teacher.${name}`, ...shape));
  const result = initFrom(byName(teacher), specs, 'last.safetensors');
  assert.equal([result.missing, result.unexpected, result.resampled], [['masked_embed'], [], null]);
});

test('a batch of any encoder fits into one binding', () => {
  const large = { ...unusual, width: 1024, heads: 16, mlpRatio: 4, patch: 16, imageSize: 224 };
  const batch = encoderBatch(large, defaultTarget, 1000);
  assert.ok(batch >= 1 && batch * 197 * 4096 * 4 <= defaultTarget.maxBindingBytes);
  assert.ok((batch + 1) * 197 * 4096 * 4 > defaultTarget.maxBindingBytes);
  assert.equal([encoderBatch(unusual, defaultTarget, 1000), encoderBatch(unusual, defaultTarget, 5)], [64, 5]);
});

test.run();
