import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { InitStd } from '../src/nn/parameters.js';
import { initialWeights } from '../src/sop/initialize.js';

const WIDTH = 128;

/** First weights of a grey ViT over 4 x 4 patches of 7 x 7 pixels. */
function weights(initStd: InitStd, seed = 0): (name: string) => Float32Array {
  const vit = { imageSize: 28, patch: 7, channels: 1, width: WIDTH, depth: 1, heads: 2, mlpRatio: 4, initStd };
  const head = { hidden: 256, layers: 3, out: 64 };
  const all = initialWeights({ vit, head, globalFeature: 'cls' }, seed);
  return (name) => all.get(name)!;
}

const deviation = (values: Float32Array): number => Math.hypot(...values) / Math.sqrt(values.length);

/** Whether a sample of a normal distribution has this deviation: its own has a standard error of std / sqrt(2 n). */
function deviates(values: Float32Array, std: number, name: string): void {
  const error = Math.abs(deviation(values) - std);
  assert.ok(error < (4 * std) / Math.sqrt(2 * values.length), `${name}: ${deviation(values)}, not ${std}`);
}

const inputsOf = {
  cls_token: WIDTH,
  pos_embed: WIDTH,
  'blocks.0.attn.qkv.weight': WIDTH,
  'blocks.0.mlp.fc2.weight': 4 * WIDTH,
  'head.mlp.0.weight': WIDTH,
  'head.mlp.2.weight': 256,
};

test('weights and tokens start with the deviation of model.init_std, or 1 / sqrt(inputs)', () => {
  const [given, fanIn] = [weights(0.02), weights('fan-in')];
  for (const [name, inputs] of Object.entries(inputsOf)) {
    deviates(given(name), 0.02, name);
    deviates(fanIn(name), 1 / Math.sqrt(inputs), name);
  }
});

test('a normal is cut at +-2, whatever its deviation', () => {
  const values = weights(1)('blocks.0.attn.qkv.weight');
  assert.ok(values.every((value) => Math.abs(value) <= 2));
  assert.ok(values.some((value) => Math.abs(value) > 1.9));
});

test('the convolution is uniform in +-1 / sqrt(inputs), biases and masked_embed are 0, norms 1 and 0', () => {
  const of = weights('fan-in');
  const convolution = of('patch_embed.proj.weight');
  assert.ok(convolution.every((value) => Math.abs(value) <= 1 / 7));
  deviates(convolution, 1 / 7 / Math.sqrt(3), 'patch_embed.proj.weight');
  assert.ok(of('blocks.0.norm1.weight').every((value) => value === 1));
  for (const name of ['blocks.0.norm1.bias', 'blocks.0.attn.qkv.bias', 'head.mlp.4.bias', 'masked_embed'])
    assert.ok(
      of(name).every((value) => value === 0),
      name,
    );
});

test('the same seed gives the same bits, another seed others', () => {
  assert.equal(weights(0.02)('pos_embed'), weights(0.02)('pos_embed'));
  assert.not.equal(weights(0.02, 1)('pos_embed'), weights(0.02)('pos_embed'));
});

test.run();
