import type { NamedArray } from '../data/safetensors.js';
import type { Target } from '../gpu/target.js';
import type { RealType } from '../graph/tensor.js';
import { MAX_NEIGHBOURS } from '../ops/neighbours.js';
import { DebugSettings } from './debug-settings.js';
import { DebugTensors } from './debug-tensors.js';
import { type NetworkShape, studentSpecs, teacherSpecs } from './networks.js';
import { type PrototypeOptions, TASK_NAMES, type TaskName, type TaskShape } from './prototypes.js';
import { packLimit, precisionOn } from './setup.js';
import { keepNames, type StepValues } from './step-inputs.js';
import type { StepShape } from './step-shape.js';

/** What a `debug step` file says, checked: sizes from its tensors, settings from its metadata. */
export interface DebugInput {
  readonly where: string;
  readonly tensors: DebugTensors;
  readonly shape: StepShape;
  /** V. */
  readonly views: number;
  /** Sides of global and local views, pixels; 0 without local ones. */
  readonly globalSize: number;
  readonly localSize: number;
  /** Patches of a global view, L. */
  readonly patches: number;
  /** u8 [2 B, L], 0 or 1. */
  readonly masks: Uint8Array;
  readonly patchRows: Int32Array;
  readonly dropPath: number;
  readonly values: StepValues & { readonly studentTemp: number; readonly lossScale: number };
}

/** Reads and checks a `debug step` file. @throws SopError 65 for tensors, 64 for settings */
export function readDebugInput(
  arrays: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
  where: string,
  target: Target,
): DebugInput {
  const settings = new DebugSettings(metadata, where);
  const tensors = new DebugTensors(arrays, where);
  const network = networkOf(tensors, settings);
  checkParameters(tensors, network);
  const batch = tensors.shape('views.global', 5)[1] ?? 0;
  const globalSize = viewSide(tensors, 'views.global', batch, network, 2);
  const local = tensors.has('views.local') && tensors.get('views.local').data.length > 0;
  const localCount = local ? (tensors.shape('views.local', 5)[0] ?? 0) : 0;
  const localSize = local ? viewSide(tensors, 'views.local', batch, network, localCount) : 0;
  const patches = (globalSize / network.vit.patch) ** 2;
  const views = 2 + localCount;
  settings.agree('train.batch_size', batch);
  settings.agree('views.local_count', localCount);
  if (local) settings.agree('model.local_size', localSize);

  tensors.agree('masks', [2, batch, patches]);
  const masks = tensors.flags('masks');
  const maskedCount = masks.reduce((sum, masked) => sum + masked, 0);
  tensors.agree('patch_rows', [batch]);
  const search = settings.word<PrototypeOptions['search']>('sop.search');
  const dropPath = tensors.names().some((name) => name.startsWith('keep.'));
  if (dropPath) checkKept(tensors, network.vit.depth, views * batch);

  const shape: StepShape = {
    network,
    batches: [{ images: batch, maskedPatches: Math.max(1, maskedCount), teacherPatches: 2 * batch * patches }],
    prototypes: {
      contributions: settings.word<PrototypeOptions['contributions']>('sop.contributions'),
      smoothing: settings.number('sop.smoothing'),
      search,
    },
    cls: taskOf(tensors, settings, 'cls', network.head.out, search),
    patch: taskOf(tensors, settings, 'patch', network.head.out, search),
    clsWeight: settings.number('loss.cls_weight'),
    patchWeight: settings.number('loss.patch_weight'),
    dropPath,
    recompute: settings.value('train.checkpoint_blocks') === true,
    precision: precisionOn(target, settings.word<RealType>('train.precision')),
    clip: settings.number('optim.clip'),
    anchors: 'given',
    maxElements: packLimit(network, target),
  };
  return {
    where,
    tensors,
    shape,
    views,
    globalSize,
    localSize,
    patches,
    masks,
    patchRows: tensors.indices('patch_rows', patches),
    dropPath: settings.number('model.drop_path'),
    values: {
      lr: settings.number('optim.lr'),
      weightDecay: settings.number('optim.weight_decay'),
      momentum: settings.number('momentum'),
      studentTemp: settings.number('sop.student_temp'),
      teacherTemp: settings.number('sop.teacher_temp'),
      step: settings.number('step'),
      lossScale: settings.number('train.loss_scale'),
    },
  };
}

/** Sizes of the networks, from the student's shapes; only heads have none. */
function networkOf(tensors: DebugTensors, settings: DebugSettings): NetworkShape {
  const [width = 0, channels = 0, patch = 0] = tensors.shape('student.patch_embed.proj.weight', 4);
  const [, tokens = 0] = tensors.shape('student.pos_embed', 3);
  const grid = Math.sqrt(tokens - 1);
  if (!Number.isInteger(grid) || grid < 1)
    throw tensors.misfit('student.pos_embed', `${tokens} rows are not [CLS] and a square grid`);
  const last = (pattern: RegExp): number =>
    Math.max(-1, ...tensors.names().map((name) => Number(pattern.exec(name)?.[1] ?? -1)));
  const depth = 1 + last(/^student\.blocks\.(\d+)\./);
  const layers = 1 + last(/^student\.head\.mlp\.(\d+)\./) / 2;
  // Where there is no block or no layer at all, its first tensor is what is missing.
  const [mlpHidden = 0] = tensors.shape('student.blocks.0.mlp.fc1.weight', 2);
  const [hidden = 0] = tensors.shape('student.head.mlp.0.weight', 2);
  const [out = 0] = tensors.shape(`student.head.mlp.${2 * Math.ceil(layers) - 2}.weight`, 2);
  const heads = settings.value('model.heads') ?? width / 64;
  if (typeof heads !== 'number' || !Number.isInteger(heads) || width % heads !== 0)
    throw settings.problem('model.heads', `${String(heads)} heads for width ${width}`, 'give a divisor of the width');
  const vit = { width, depth, heads, mlpRatio: mlpHidden / width, patch, channels, imageSize: grid * patch };
  settings.agree('model.width', width);
  settings.agree('model.depth', depth);
  settings.agree('model.mlp_ratio', vit.mlpRatio, width);
  settings.agree('model.patch_size', patch);
  settings.agree('model.image_size', vit.imageSize);
  if (layers > 1) settings.agree('head.hidden', hidden);
  settings.agree('head.layers', layers);
  settings.agree('head.out', out);
  return {
    vit: { ...vit, initStd: 0.02 },
    head: { hidden, layers, out },
    globalFeature: settings.word<NetworkShape['globalFeature']>('model.global_feature'),
  };
}

/** Side of the square views [count, batch, channels, side, side], which the patch divides. */
function viewSide(
  tensors: DebugTensors,
  name: string,
  batch: number,
  { vit: { channels, patch } }: NetworkShape,
  count: number,
): number {
  const side = tensors.shape(name, 5)[3] ?? 0;
  tensors.agree(name, [count, batch, channels, side, side]);
  if (side % patch !== 0) throw tensors.misfit(name, `patches of ${patch} do not divide side ${side}`);
  return side;
}

function taskOf(
  tensors: DebugTensors,
  settings: DebugSettings,
  name: TaskName,
  width: number,
  search: PrototypeOptions['search'],
): TaskShape {
  const [memory = 0] = tensors.shape(`memory.${name}`, 2);
  tensors.agree(`memory.${name}`, [memory, width]);
  const [tasks = 0, anchors = 0] = tensors.shape(`anchors.${name}`, 2);
  if (anchors > memory || anchors < 2)
    throw tensors.misfit(
      `anchors.${name}`,
      `${anchors} anchors of a memory of ${memory} rows, expected 2 to ${memory}`,
    );
  tensors.indices(`anchors.${name}`, memory);
  tensors.agree(`memory.${name}_pointer`, [1]);
  tensors.indices(`memory.${name}_pointer`, memory);
  settings.agree(`sop.${name}.memory`, memory);
  settings.agree(`sop.${name}.anchors`, anchors);
  settings.agree(`sop.${name}.tasks`, tasks);
  const key = `sop.${name}.neighbours`;
  const neighbours = settings.number(key);
  const searched = search === 'all' ? memory - 1 : memory - anchors;
  if (neighbours > searched)
    throw settings.problem(
      key,
      `it is ${neighbours}, ${searched} rows are searched`,
      `give 0 to ${Math.min(searched, MAX_NEIGHBOURS)}`,
    );
  return { memory, anchors, neighbours, tasks, listed: false };
}

function checkKept(tensors: DebugTensors, depth: number, sequences: number): void {
  for (const name of keepNames(depth)) {
    if (!tensors.has(name)) continue;
    tensors.agree(name, [sequences]);
    const bad = tensors.floats(name).find((kept) => kept !== 0 && kept !== 1);
    if (bad !== undefined) throw tensors.misfit(name, `it holds ${bad}, expected 0 or 1`);
  }
}

/** All parameters of both networks, moments in pairs, and nothing beside them. */
function checkParameters(tensors: DebugTensors, network: NetworkShape): void {
  const known = new Set(['views.global', 'views.local', 'masks', 'patch_rows', 'teacher.masked_embed']);
  for (const name of TASK_NAMES)
    for (const key of [`anchors.${name}`, `memory.${name}`, `memory.${name}_pointer`]) known.add(key);
  for (const name of keepNames(network.vit.depth)) known.add(name);
  for (const { name } of studentSpecs(network))
    for (const kind of ['student', 'teacher', 'moment1', 'moment2']) known.add(`${kind}.${name}`);
  tensors.refuseUnknown(known);
  for (const { name, shape } of studentSpecs(network)) {
    tensors.agree(`student.${name}`, shape);
    const moments = [`moment1.${name}`, `moment2.${name}`];
    if (moments.some((moment) => tensors.has(moment))) for (const moment of moments) tensors.agree(moment, shape);
  }
  for (const { name, shape } of teacherSpecs(network)) tensors.agree(`teacher.${name}`, shape);
}
