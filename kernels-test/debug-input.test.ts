import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NamedArray } from '../src/data/safetensors.js';
import { SopError } from '../src/errors.js';
import { defaultTarget } from '../src/gpu/target.js';
import { readDebugInput } from '../src/sop/debug-input.js';
import { fixture } from './fixtures-support.js';

/** What is wrong with a `debug step` file is said before anything compiles, naming tensor or setting. */
const file = 'step-multicrop.input';
const { tensors, metadata } = fixture(file);

/** Tensors to put in place of the fixture's, or to leave out (null); likewise settings. */
interface Change {
  readonly tensors?: Readonly<Record<string, Omit<NamedArray, 'name'> | null>>;
  readonly settings?: Readonly<Record<string, string | null>>;
}

function changed<T>(from: ReadonlyMap<string, T>, changes: Readonly<Record<string, T | null>>): Map<string, T> {
  const result = new Map(from);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) result.delete(name);
    else result.set(name, value);
  }
  return result;
}

const read = ({ tensors: arrays = {}, settings = {} }: Change) =>
  readDebugInput(
    changed(tensors, arrays as Record<string, NamedArray | null>),
    changed(metadata, settings),
    file,
    defaultTarget,
  );

const floats = (...shape: number[]) => {
  const count = shape.reduce((a, b) => a * b, 1);
  return { dtype: 'F32' as const, shape, data: new Float32Array(count) };
};
const integers = (shape: readonly number[], ...data: number[]) => ({
  dtype: 'I32' as const,
  shape,
  data: Int32Array.from(data),
});
/** 7 anchors of each of 2 tasks, in a memory of 13 rows. */
const anchors = (first: number) => integers([2, 7], ...Array.from({ length: 14 }, (_, i) => first + (i % 7)));

/** Exit code, what the line must say, and the change that brings it about. */
const wrong: readonly (readonly [number, RegExp, Change])[] = [
  [65, /student\.masked_embed\).*needs it/, { tensors: { 'student.masked_embed': null } }],
  [65, /teacher\.norm\.bias\)/, { tensors: { 'teacher.norm.bias': null } }],
  [65, /student\.blocks\.1\.norm1\.weight\)/, { tensors: { 'student.blocks.1.norm1.weight': null } }],
  [65, /moment2\.norm\.bias\)/, { tensors: { 'moment2.norm.bias': null } }],
  [65, /anchors\.patch\)/, { tensors: { 'anchors.patch': null } }],
  [
    65,
    /blocks\.0\.norm3\.weight\).*did you mean/,
    {
      tensors: { 'teacher.blocks.0.norm1.weight': null, 'teacher.blocks.0.norm3.weight': floats(24) },
    },
  ],
  [65, /keep\.2\.attn\).*none of that name/, { tensors: { 'keep.2.attn': floats(12) } }],
  [65, /view\.local\).*did you mean views\.local/, { tensors: { 'views.local': null, 'view.local': floats(1) } }],
  [65, /views\.global\).*patches of 7 do not divide side 30/, { tensors: { 'views.global': floats(2, 3, 1, 30, 30) } }],
  [
    65,
    /views\.global\).*\[2, 3, 3, 28, 28\], expected \[2, 3, 1,/,
    { tensors: { 'views.global': floats(2, 3, 3, 28, 28) } },
  ],
  [65, /views\.global\).*none of them 0/, { tensors: { 'views.global': floats(2, 0, 1, 28, 28) } }],
  [65, /views\.local\).*patches of 7 do not divide side 15/, { tensors: { 'views.local': floats(2, 3, 1, 15, 15) } }],
  [
    65,
    /masks\).*expected \[2, 3, 16\]/,
    { tensors: { masks: { dtype: 'U8', shape: [2, 3, 4], data: new Uint8Array(24) } } },
  ],
  [65, /masks\).*type F32, expected U8/, { tensors: { masks: floats(2, 3, 16) } }],
  [
    65,
    /anchors\.cls\).*14 anchors of a memory of 13 rows/,
    {
      tensors: { 'anchors.cls': integers([1, 14], ...new Array<number>(14).fill(0)) },
    },
  ],
  [65, /anchors\.cls\): 13 is not in 0 to 12/, { tensors: { 'anchors.cls': anchors(7) } }],
  [65, /anchors\.cls\).*type F32, expected I32/, { tensors: { 'anchors.cls': floats(2, 7) } }],
  [65, /patch_rows\): 16 is not in 0 to 15/, { tensors: { patch_rows: integers([3], 0, 16, 2) } }],
  [65, /memory\.cls_pointer\): 13 is not in 0 to 12/, { tensors: { 'memory.cls_pointer': integers([1], 13) } }],
  [65, /memory\.cls\).*expected \[13, 16\]/, { tensors: { 'memory.cls': floats(13, 15) } }],
  [
    65,
    /keep\.1\.mlp\): it holds 0\.5/,
    {
      tensors: { 'keep.1.mlp': { dtype: 'F32', shape: [12], data: new Float32Array(12).fill(0.5) } },
    },
  ],
  [64, /optim\.lrr\).*did you mean optim\.lr\?/, { settings: { 'optim.lrr': '1' } }],
  [64, /sop\.cls\.neighbours\): it is 13, 12 rows are searched/, { settings: { 'sop.cls.neighbours': '13' } }],
  [
    64,
    /sop\.cls\.neighbours\): it is 8, 7 rows are searched/,
    {
      settings: { 'sop.cls.neighbours': '8', 'sop.search': 'non-anchors' },
    },
  ],
  [64, /sop\.cls\.neighbours\): expected an integer >= 0 and <= 16/, { settings: { 'sop.cls.neighbours': '17' } }],
  [64, /mask\.ratio\): expected a number >= 0 and < 1, got '1'/, { settings: { 'mask.ratio': '1' } }],
  [64, /model\.drop_path\): expected a number >= 0 and < 1/, { settings: { 'model.drop_path': '1' } }],
  [64, /sop\.student_temp\): expected a number > 0/, { settings: { 'sop.student_temp': '0' } }],
  [64, /optim\.lr\): expected a number >= 0, got 'fast'/, { settings: { 'optim.lr': 'fast' } }],
  [64, /step\): expected an integer >= 1/, { settings: { step: '0' } }],
  [64, /sop\.contributions\): expected soft or one-hot/, { settings: { 'sop.contributions': 'hard' } }],
  [64, /model\.heads\): 5 heads for width 24/, { settings: { 'model.heads': '5' } }],
  [64, /model\.heads\): 0\.375 heads for width 24/, { settings: { 'model.heads': null } }],
];

/** Settings that repeat what tensors say. */
const sizes = [
  ...['train.batch_size', 'views.local_count', 'head.hidden', 'head.layers', 'head.out'],
  ...['width', 'depth', 'mlp_ratio', 'patch_size', 'image_size', 'local_size'].map((size) => `model.${size}`),
  ...['memory', 'anchors', 'tasks'].flatMap((size) => [`sop.cls.${size}`, `sop.patch.${size}`]),
];
const contradicting = sizes.map((key) => {
  const size = metadata.get(key) ?? tensors.get('views.global')!.shape[1]; // the batch, of which the fixture says nothing
  return [64, new RegExp(`${key}\\): it is 10, the tensors say ${size}`), { settings: { [key]: '10' } }] as const;
});

for (const [exitCode, says, change] of [...wrong, ...contradicting]) {
  test(`${exitCode} ${says.source}`, () => {
    try {
      read(change);
    } catch (error) {
      assert.instance(error, SopError);
      assert.is((error as SopError).exitCode, exitCode, (error as SopError).message);
      assert.match((error as SopError).message, says);
      return;
    }
    assert.unreachable('nothing was refused');
  });
}

test('what may be left out', () => {
  const optional = /^(moment|keep\.0)|^teacher\.masked_embed$/;
  const without = [...tensors.keys()].filter((name) => optional.test(name)).map((name) => [name, null] as const);
  const sizes = [...metadata.keys()].filter((key) => /^head\.|model\.(width|depth|.*size)|views\.|tasks$/.test(key));
  const { shape, views } = read({
    tensors: { ...Object.fromEntries(without), 'teacher.masked_embed': floats(1, 24) },
    settings: { ...Object.fromEntries(sizes.map((key) => [key, null])), 'optim.lr': '0', 'optim.clip': '0' },
  });
  // 48.48 rounds to the 48 that the tensors have.
  read({ settings: { 'model.mlp_ratio': '2.02' } });
  assert.is(views, 4);
  assert.equal(shape.network.head, { hidden: 32, layers: 3, out: 16 });
  assert.is(shape.dropPath, true);
});

test.run();
