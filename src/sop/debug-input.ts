import { fields } from '../config/keys.js';
import { nearestName } from '../config/nearest.js';
import { type NamedArray, toFloat32 } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import { showShape } from '../graph/tensor.js';
import { bindingLimit } from '../plan/plan.js';
import { studentSpecs, teacherSpecs } from './networks.js';
import type { TaskShape } from './prototypes.js';
import type { StepShape } from './train-step.js';

/** What a `debug step` file says, checked: sizes from its tensors, settings from its metadata. */
export interface DebugInput {
  readonly where: string;
  readonly tensors: ReadonlyMap<string, NamedArray>;
  readonly shape: StepShape;
  /** V. */
  readonly views: number;
  /** Side of local views, pixels; 0 without. */
  readonly localSize: number;
  /** Patches of a global view, L. */
  readonly patches: number;
  /** u8 [2 B, L]. */
  readonly masks: Uint8Array;
  readonly maskedCount: number;
  readonly patchRows: Int32Array;
  readonly dropPath: number;
  readonly values: {
    readonly lr: number;
    readonly weightDecay: number;
    readonly momentum: number;
    readonly studentTemp: number;
    readonly teacherTemp: number;
    readonly step: number;
  };
  /** A tensor's elements. Throws `SopError` 65 when it is missing or of another type. */
  floats(name: string): Float32Array<ArrayBuffer>;
  integers(name: string): Int32Array;
}

/** Settings of a step that are no configuration keys: they are what schedules would decide. */
const stepKeys = ['momentum', 'step'] as const;

/** Reads and checks a `debug step` file. Throws `SopError` 65 for tensors, 64 for settings. */
export function readDebugInput(
  tensors: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
  where: string,
  target: Target,
): DebugInput {
  for (const key of metadata.keys()) {
    if (fields.has(key) || (stepKeys as readonly string[]).includes(key) || /^(crc32\.|format$|sop-gpu\.)/.test(key))
      continue;
    const guess = nearestName(key, [...fields.keys(), ...stepKeys]);
    throw setting(where, key, 'is not a known setting', guess ? `did you mean ${guess}?` : 'leave it out');
  }
  const number = (key: string, fallback: number): number => {
    const text = metadata.get(key);
    if (text === undefined) return fallback;
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value)) throw setting(where, key, `is '${text}'`, 'give a number');
    return value;
  };
  const choice = <T extends string>(key: string, options: readonly [T, ...T[]]): T => {
    const text = metadata.get(key) ?? options[0];
    const found = options.find((option) => option === text);
    if (found === undefined) throw setting(where, key, `is '${text}'`, `choose ${options.join(' or ')}`);
    return found;
  };
  const get = (name: string): NamedArray => {
    const array = tensors.get(name);
    if (!array) throw problem('tensor is missing', where, name, 'a step needs it', 'add it to the file');
    return array;
  };
  const shapeOf = (name: string, rank: number): readonly number[] => {
    const { shape } = get(name);
    if (shape.length !== rank)
      throw problem(
        'tensor does not fit',
        where,
        name,
        `shape ${showShape(shape)} has not ${rank} dimensions`,
        'see interface.md, debug step',
      );
    return shape;
  };
  const agree = (name: string, shape: readonly number[]): void => {
    if (get(name).shape.join() !== shape.join()) {
      throw problem(
        'tensor does not fit',
        where,
        name,
        `shape ${showShape(get(name).shape)}, expected ${showShape(shape)}`,
        'make shapes agree',
      );
    }
  };
  const same = (key: string, value: number): number => {
    if (number(key, value) !== value)
      throw setting(where, key, `is ${metadata.get(key)}, the tensors say ${value}`, 'make them agree');
    return value;
  };

  const [width = 0, channels = 0, patch = 0] = shapeOf('student.patch_embed.proj.weight', 4);
  const [two = 0, batch = 0, , side = 0] = shapeOf('views.global', 5);
  agree('views.global', [2, batch, channels, side, side]);
  if (two !== 2 || side % patch !== 0)
    throw problem(
      'views do not fit',
      where,
      'views.global',
      `${two} views of side ${side} with patches of ${patch}`,
      'give 2 views whose side the patch divides',
    );
  const patches = (side / patch) ** 2;
  agree('student.pos_embed', [1, 1 + patches, width]);
  const local = tensors.get('views.local');
  const hasLocal = local !== undefined && local.data.length > 0;
  const [localCount = 0, , , localSize = 0] = hasLocal ? shapeOf('views.local', 5) : [];
  if (hasLocal) agree('views.local', [localCount, batch, channels, localSize, localSize]);
  if (localSize % patch !== 0)
    throw problem(
      'views do not fit',
      where,
      'views.local',
      `patches of ${patch} do not divide side ${localSize}`,
      'give views whose side the patch divides',
    );

  let depth = 0;
  while (tensors.has(`student.blocks.${depth}.norm1.weight`)) depth += 1;
  if (depth === 0)
    throw problem(
      'tensor is missing',
      where,
      'student.blocks.0.norm1.weight',
      'a step needs at least one block',
      'add it to the file',
    );
  let layers = 0;
  while (tensors.has(`student.head.mlp.${2 * layers}.weight`)) layers += 1;
  if (layers === 0)
    throw problem(
      'tensor is missing',
      where,
      'student.head.mlp.0.weight',
      'a step needs the head',
      'add it to the file',
    );
  const [hidden = 0] = shapeOf('student.head.mlp.0.weight', 2);
  const [out = 0] = shapeOf(`student.head.mlp.${2 * layers - 2}.weight`, 2);
  const [mlpHidden = 0] = shapeOf('student.blocks.0.mlp.fc1.weight', 2);
  const heads = number('model.heads', width / 64);
  if (!Number.isInteger(heads) || heads < 1 || width % heads !== 0)
    throw setting(where, 'model.heads', `is ${heads} for width ${width}`, 'give a divisor of the width');
  same('model.width', width);
  same('model.depth', depth);
  same('model.patch_size', patch);
  same('model.image_size', side);
  same('train.batch_size', batch);
  same('views.local_count', localCount);
  same('head.layers', layers);

  agree('masks', [2, batch, patches]);
  const masks = Uint8Array.from(get('masks').data as Uint8Array);
  const maskedCount = masks.reduce((sum, masked) => sum + (masked ? 1 : 0), 0);
  agree('patch_rows', [batch]);
  const integers = (name: string): Int32Array => {
    const { data, dtype } = get(name);
    if (dtype !== 'I32' && dtype !== 'U32')
      throw problem('tensor does not fit', where, name, `type ${dtype}, expected I32`, 'convert it');
    return Int32Array.from(data);
  };
  const within = (name: string, bound: number): Int32Array => {
    const rows = integers(name);
    const bad = rows.find((row) => row < 0 || row >= bound);
    if (bad !== undefined)
      throw problem('index out of range', where, name, `${bad} is not in 0 to ${bound - 1}`, 'correct it');
    return rows;
  };
  const task = (name: 'cls' | 'patch', fallback: number): TaskShape => {
    const [memory = 0] = shapeOf(`memory.${name}`, 2);
    agree(`memory.${name}`, [memory, out]);
    const [tasks = 0, anchors = 0] = shapeOf(`anchors.${name}`, 2);
    const neighbours = number(`sop.${name}.neighbours`, fallback);
    if (anchors > memory || anchors < 2)
      throw problem(
        'tensor does not fit',
        where,
        `anchors.${name}`,
        `${anchors} anchors of a memory of ${memory} rows`,
        'give 2 to N anchors',
      );
    const searched = choice('sop.search', ['all', 'non-anchors']) === 'all' ? memory - 1 : memory - anchors;
    if (!Number.isInteger(neighbours) || neighbours < 0 || neighbours > Math.min(searched, 16)) {
      throw setting(where, `sop.${name}.neighbours`, `is ${neighbours}`, `give 0 to ${Math.min(searched, 16)}`);
    }
    within(`anchors.${name}`, memory);
    within(`memory.${name}_pointer`, memory);
    return { memory, anchors, neighbours, tasks };
  };
  within('patch_rows', patches);
  const dropPath = number('model.drop_path', 0);
  const given = [...tensors.keys()].some((name) => name.startsWith('keep.'));

  const shape: StepShape = {
    network: {
      vit: { width, depth, heads, mlpRatio: mlpHidden / width, patch, channels, imageSize: side, initStd: 0.02 },
      head: { hidden, layers, out },
      globalFeature: choice('model.global_feature', ['cls', 'avg-patch']),
    },
    batches: [{ images: batch, maskedPatches: Math.max(1, maskedCount), teacherPatches: 2 * batch * patches }],
    prototypes: {
      contributions: choice('sop.contributions', ['soft', 'one-hot']),
      smoothing: number('sop.smoothing', 0.1),
      search: choice('sop.search', ['all', 'non-anchors']),
    },
    cls: task('cls', 8),
    patch: task('patch', 0),
    clsWeight: number('loss.cls_weight', 1),
    patchWeight: number('loss.patch_weight', 1),
    dropPath: given,
    recompute: metadata.get('train.checkpoint_blocks') === 'true',
    clip: number('optim.clip', 3),
    anchors: 'given',
    maxElements: Math.floor(bindingLimit(target) / 4),
  };
  for (const [network, specs] of [
    ['student', studentSpecs(shape.network)],
    ['teacher', teacherSpecs(shape.network)],
  ] as const) {
    for (const spec of specs) agree(`${network}.${spec.name}`, spec.shape);
  }
  const step = number('step', 1);
  if (!Number.isInteger(step) || step < 1) throw setting(where, 'step', `is ${step}`, 'give a whole number from 1');
  const views = 2 + localCount;
  if (given)
    for (let block = 0; block < depth; block++)
      for (const branch of ['attn', 'mlp']) agree(`keep.${block}.${branch}`, [views * batch]);
  return {
    where,
    tensors,
    shape,
    views,
    localSize,
    patches,
    masks,
    maskedCount,
    patchRows: integers('patch_rows'),
    dropPath,
    values: {
      lr: number('optim.lr', 5e-4),
      weightDecay: number('optim.weight_decay', 0.04),
      momentum: number('momentum', 0.996),
      studentTemp: number('sop.student_temp', 0.1),
      teacherTemp: number('sop.teacher_temp', 0.04),
      step,
    },
    floats: (name) => toFloat32(get(name)) as Float32Array<ArrayBuffer>,
    integers,
  };
}

function problem(what: string, where: string, name: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.data, { what, where: `${where}, ${name}`, why, fix });
}

function setting(where: string, key: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.usage, {
    what: 'setting cannot be used',
    where: `${where}, ${key}`,
    why: `it ${why}`,
    fix,
  });
}
