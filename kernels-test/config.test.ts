import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { diffConfig, fields, flattenConfig } from '../src/config/keys.js';
import { editDistance, nearestName } from '../src/config/nearest.js';
import { commandLineLayer, type FlagSetting, resolveConfig } from '../src/config/resolve.js';
import { type Config, runLength } from '../src/config/schema.js';
import { formatConfig, yamlLayer } from '../src/config/yaml.js';
import { SopError } from '../src/errors.js';
import { MAX_NEIGHBOURS } from '../src/ops/neighbours.js';

/** The configuration of a file's text and of `--set` pairs over it. */
function resolve(yaml: string, sets: readonly string[] = [], flags: readonly FlagSetting[] = []): Config {
  return resolveConfig([yamlLayer(yaml, 'my.yaml'), commandLineLayer(sets, flags)]);
}

function failureOf(run: () => unknown): SopError {
  try {
    run();
  } catch (error) {
    if (error instanceof SopError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** Expects one error with this exit code whose line has all these parts. */
function fails(exitCode: number, parts: readonly string[], yaml: string, sets: readonly string[] = []): void {
  const error = failureOf(() => resolve(yaml, sets));
  assert.is(error.exitCode, exitCode, error.message);
  for (const part of parts) assert.ok(error.message.includes(part), `"${part}" is not in: ${error.message}`);
  assert.not.match(error.message, /\n/);
}

/** `../presets` from the sources, `../../presets` from what is compiled. */
function presets(): readonly { readonly name: string; readonly text: string }[] {
  for (const above of ['../presets', '../../presets']) {
    const folder = fileURLToPath(new URL(above, import.meta.url));
    try {
      return readdirSync(folder).map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }));
    } catch {} // the other one
  }
  throw new Error('no presets');
}

test('the defaults are the main setting of the paper', () => {
  const config = resolve('');
  assert.equal(config.sop.cls, { memory: 65536, anchors: 4096, neighbours: 8, tasks: 4 });
  assert.equal(config.sop.patch, { memory: 8192, anchors: 512, neighbours: 0, tasks: 1 });
  const { width, depth, heads, patch_size: patch } = config.model;
  assert.equal([width, depth, heads, patch], [384, 12, 6, 16]);
  assert.equal(config.augment.blur, [1, 0.1, 0.5]);
  assert.equal(runLength(config), { unit: 'epochs', value: 800 });
  assert.is(config.optim.warmup_epochs, 10);
});

test('every preset resolves, states its command and result, and its written form reads back as itself', () => {
  const found = presets();
  const names = ['fashion-mnist', 'quickstart', 'small-64', 'vit-b', 'vit-l', 'vit-s', 'vit-s-ablation'];
  assert.equal(found.map(({ name }) => name).sort(), names.map((name) => `${name}.yaml`).sort());
  for (const { name, text } of found) {
    const config = resolveConfig([yamlLayer(text, name)]);
    const written = formatConfig(config, ['a comment']);
    assert.equal(resolveConfig([yamlLayer(written, name)]), config, name);
    for (const word of ['#   sop-gpu ', '# Expected:', '# Hours:']) assert.ok(text.includes(word), `${name}: ${word}`);
  }
});

test('the written form has every key once, in the order of the schema', () => {
  const config = resolve('', ['augment.blur=0.25', 'data.mean=0.5', 'data.std=0.5']);
  assert.equal([...flattenConfig(config).keys()], [...fields.keys()]);
  assert.equal(config.augment.blur, [0.25, 0.25, 0.25]);
  assert.match(formatConfig(config), /\n {2}blur: \[0\.25, 0\.25, 0\.25\]\n/);
});

test('every key has a help text and says what it expects', () => {
  for (const { key, help, expected } of fields.values()) {
    assert.ok(help.length > 5 && expected.length > 2, key);
  }
});

test('later layers win; differences are listed', () => {
  const low = resolve('train: { batch_size: 8 }');
  const high = resolve('train: { batch_size: 8 }', ['optim.lr=2e-3'], [['train.batch_size', '16', '--batch-size']]);
  assert.equal(diffConfig(low, high), [
    { key: 'optim.lr', before: 5e-4, after: 2e-3 },
    { key: 'train.batch_size', before: 8, after: 16 },
  ]);
});

test('lengths and warm-ups of later layers replace those of earlier ones', () => {
  const config = resolve('train: { epochs: 3 }\noptim: { warmup: 0.2 }', ['train.steps=20', 'optim.warmup_epochs=1']);
  assert.equal(runLength(config), { unit: 'steps', value: 20 });
  assert.equal([config.train.epochs, config.optim.warmup, config.optim.warmup_epochs], [null, null, 1]);
  assert.is(resolve('', ['train.steps=20']).optim.warmup, 0.1);
  fails(64, ['train.epochs and train.steps', 'give one'], '', ['train.steps=2', 'train.epochs=3']);
  fails(78, ['my.yaml:1', 'optim.warmup and'], 'optim: { warmup: 0.1, warmup_epochs: 2 }');
});

test('architectures: a name brings its sizes, a later size makes it custom', () => {
  assert.equal(resolve('', ['model.arch=large']).model.depth, 24);
  const custom = resolve('model: { arch: base }', ['model.width=128']).model;
  assert.equal([custom.arch, custom.width, custom.depth, custom.heads], ['custom', 128, 12, 2]);
  assert.is(resolve('model: { arch: custom, width: 64, depth: 2, heads: 4 }', ['model.arch=tiny']).model.width, 192);
  fails(78, ['model.width (my.yaml:3)', 'expected 384', 'got 128'], 'model:\n  arch: small\n  width: 128');
  fails(64, ['model.depth', 'custom', 'set model.depth'], '', ['model.arch=custom', 'model.width=64']);
});

test('the mask ratio follows its kind', () => {
  assert.is(resolve('').mask.ratio, 0.3);
  assert.is(resolve('', ['mask.kind=random']).mask.ratio, 0.7);
  assert.is(resolve('mask: { ratio: 0.5 }', ['mask.kind=random']).mask.ratio, 0.5);
});

test('settings are read by the type of their key', () => {
  const config = resolve('', ['model.init_std=fan-in', 'eval.k=20,10', 'data.path=123', 'augment.solarize=[0, 1, 0]']);
  assert.is(config.model.init_std, 'fan-in');
  assert.equal(config.eval.k, [10, 20]);
  assert.is(config.data.path, '123');
  assert.equal(config.augment.solarize, [0, 1, 0]);
  assert.is(resolve('train: { seed: 3 }', ['train.checkpoint_blocks=true']).train.checkpoint_blocks, true);
});

test('bad numbers on the command line are usage errors that name key, expected and got', () => {
  for (const text of ['1e-3x', 'nan', 'Infinity', '0x10', '1_000', 'true', 'null', '[1]', '1 2']) {
    fails(64, ['optim.lr (--set)', 'expected a number > 0', `got "${text}"`], '', [`optim.lr=${text}`]);
  }
  fails(64, ['optim.lr (--set)', 'got 0;'], '', ['optim.lr=0']);
  fails(64, ['optim.lr (--set)', 'got -1;'], '', ['optim.lr=-1']);
  fails(64, ['no value for optim.lr', 'got nothing'], '', ['optim.lr=']);
  fails(64, ['no value for data.path'], '', ['data.path=  ']);
  fails(64, ['train.batch_size', 'an integer', '1.5'], '', ['train.batch_size=1.5']);
  fails(64, ['key=value', '"abc"'], '', ['abc']);
  fails(64, ['given twice'], '', ['optim.lr=1', 'optim.lr=2']);
  fails(64, ['(--set)', 'expected true or false'], '', ['train.checkpoint_blocks=yes']);
  fails(64, ['the smaller first'], '', ['views.global_scale=1,0.5']);
  fails(64, ['different integers'], '', ['eval.k=10,10']);
  const error = failureOf(() => resolve('', [], [['train.epochs', '0', '--epochs']]));
  assert.ok(error.exitCode === 64 && error.message.includes('(--epochs)'), error.message);
});

test('unknown keys fail with the nearest name', () => {
  fails(64, ['unknown key modle.width', 'did you mean model.width?'], '', ['modle.width=3']);
  fails(64, ['did you mean model.width?'], '', ['width=3']);
  fails(64, ['did you mean train.batch_size?'], '', ['train.batchsize=3']);
  fails(78, ['my.yaml:2', 'did you mean model.depth?'], 'model:\n  depht: 3');
  fails(64, ['it is a section'], '', ['sop.cls=3']);
  for (const name of ['constructor', '__proto__', 'toString']) fails(64, ['unknown key'], '', [`${name}=3`]);
  fails(78, ['unknown key __proto__'], '__proto__: { a: 3 }');
});

test('what is wrong in a file is a configuration error with its line', () => {
  const cases: readonly (readonly [string, ...string[]])[] = [
    ['model:\n  width: 3\n  width: 4', 'my.yaml:3', 'width is given twice'],
    ['model.depth: 3\nmodel: { depth: 4 }', 'my.yaml:2', 'model.depth is given twice'],
    ['model: [1', 'my.yaml:1'],
    ['model:\n\t- x', 'my.yaml:2'],
    ['- 1', 'my.yaml:1', 'expected sections'],
    ['model: 3', 'my.yaml:1', 'expected keys below model'],
    ['model: &x { depth: 3 }\nhead: *x', 'my.yaml:2'],
    ['train:\n  seed: *x', 'my.yaml'],
    ['train:\n  seed: !!js/function 3', 'my.yaml:2', 'tag'],
    ['a: 1\n---\nb: 2', 'my.yaml:2'],
    ['? [1, 2]\n: 3', 'my.yaml:1'],
    ['model:\n  depth: .inf', 'my.yaml:2', 'model.depth', 'got Infinity'],
    ['model:\n  depth: "6"', 'my.yaml:2', 'got "6"'],
    ['model:\n  depth: { a: 3 }', 'my.yaml:2', 'expected an integer'],
    ['sop:\n  cls:\n    anchors: 1', 'my.yaml:3', 'sop.cls.anchors', '>= 2'],
    ['['.repeat(20_000), 'my.yaml'],
    ['x'.repeat((1 << 20) + 1), 'my.yaml'],
  ];
  for (const [yaml, ...parts] of cases) fails(78, parts, yaml);
});

test('an empty file, an empty section and comments set nothing', () => {
  for (const yaml of ['', '# only a comment\n', 'model:\n', 'model: {}\n', '---\n']) {
    assert.equal(resolve(yaml), resolve(''), JSON.stringify(yaml));
  }
});

test('keys that contradict each other fail before any work, with the way out', () => {
  const cases: readonly (readonly [sets: string, ...parts: string[]])[] = [
    ['model.heads=7 model.width=384', 'model.heads', 'a divisor of model.width 384', 'set model.heads to 6'],
    ['model.patch_size=15', 'model.image_size', 'a multiple of model.patch_size 15', 'got 224', '225'],
    ['model.local_size=100', 'model.local_size', 'set model.local_size to 96'],
    ['sop.cls.anchors=70000', 'sop.cls.anchors', 'at most 65536', 'got 70000'],
    ['sop.cls.memory=16 sop.cls.anchors=16 sop.cls.neighbours=16', 'sop.cls.neighbours', 'the 15 other rows', 'got 16'],
    [`sop.cls.neighbours=${MAX_NEIGHBOURS + 1}`, 'sop.cls.neighbours', `<= ${MAX_NEIGHBOURS}`],
    ['sop.patch.memory=64 sop.patch.anchors=60 sop.patch.neighbours=5 sop.search=non-anchors', 'the 4 rows'],
    ['sop.cls.anchors=40000 sop.anchor_selection=low-energy', 'at most 32768'],
    ['sop.cls.neighbours=1 sop.anchor_selection=low-energy', 'at least 2 neighbour scores'],
    ['mask.ratio=1', 'mask.ratio', '< 1', 'got 1'],
    ['mask.ratio_var=0.4', 'mask.ratio_var', '0.3 -+ 0.4', 'below 0.3'],
    ['mask.ratio=0.001', 'mask.ratio', 'of 196 patches masks none', 'set mask.ratio to 0.006 or more, or loss'],
    ['model.image_size=16 model.local_size=16', 'mask.ratio', 'of 1 patches', '; set loss.patch_weight to 0'],
    ['model.width=64 model.mlp_ratio=0.001', 'model.mlp_ratio', 'got 0.001', 'set model.mlp_ratio to 0.016 or more'],
    ['views.local_count=-1', 'views.local_count', '>= 0', 'got -1'],
    ['loss.cls_weight=0 loss.patch_weight=0', 'nothing would be learned'],
    ['train.epochs=5 optim.warmup_epochs=5', 'optim.warmup_epochs', 'less than train.epochs 5'],
    ['train.epochs=5 sop.teacher_temp_warmup_epochs=6', 'at most train.epochs 5'],
    ['data.mean=0.5', 'data.std', 'got none'],
    ['train.precision=f64', 'expected f32'],
  ];
  for (const [sets, ...parts] of cases) fails(64, parts, '', sets.split(' '));
  // What a file says alone is the file's fault, what a flag breaks in it the flag's.
  fails(78, ['my.yaml:1', 'model.heads'], 'model: { arch: custom, width: 64, depth: 1, heads: 3 }');
  fails(64, ['(--set)', 'model.image_size'], 'model: { image_size: 224 }', ['model.patch_size=15']);
  fails(64, ['(--set)', 'mask.ratio'], 'mask: { ratio: 0.3 }', ['model.image_size=16', 'model.local_size=16']);
});

test('without local views their size does not matter', () => {
  assert.is(resolve('', ['views.local_count=0', 'model.local_size=97']).model.local_size, 97);
});

test('edit distance counts a swap of neighbours as one', () => {
  const cases = [
    ['', '', 0],
    ['abc', '', 3],
    ['abc', 'abc', 0],
    ['depth', 'depht', 1],
    ['kitten', 'sitting', 3],
    ['ca', 'abc', 3],
  ] as const;
  for (const [a, b, distance] of cases) {
    assert.is(editDistance(a, b), distance, `${a} ${b}`);
    assert.is(editDistance(b, a), distance, `${b} ${a}`);
  }
  assert.is(nearestName('zzzzzz', ['model.width']), undefined);
  assert.is(nearestName('1', ['eval.k']), undefined);
});

test.run();
