import type { ImageSet } from '../data/dataset.js';
import type { NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';
import { drawAnchors } from './anchors.js';
import { drawPatchRows, Feed } from './feed.js';
import { declareMemory } from './memory.js';
import { TASK_NAMES } from './prototypes.js';
import { stateEntries } from './state.js';
import { keepNames, type StepValues } from './step-inputs.js';
import { type Training, traceViews, type ViewDraws } from './training.js';

/** What `debug step` takes (`sop-gpu debug step --help`). */
export interface StepFile {
  readonly tensors: readonly NamedArray[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * A training step as files that `debug step` replays, one for each micro-batch: the same state, images, draws and anchors.
 * Nothing of the step was kept: it is made again, since all of it is a function of (seed, step) and the images.
 *
 * @param state what the trainer saved before that step
 */
export async function stepFiles(
  gpu: Gpu,
  training: Training,
  set: ImageSet,
  state: readonly NamedArray[],
  values: StepValues,
): Promise<StepFile[]> {
  const feed = new Feed(training, set, values.step - 1);
  const { step, writes } = await feed.next().finally(() => feed.close());
  const written = new Map<Tensor, Elements>([...writes, ...Feed.residentPixels(training, set)]);
  const given = (tensor: Tensor): Elements => {
    const data = written.get(tensor);
    if (!data) throw incomplete(tensor.label);
    return data;
  };
  const entries = stateEntries(training.step, training.shape.network);
  const optional = new Set(entries.flatMap((entry) => (entry.optional ? [entry.name] : [])));
  const kept = state.filter(({ name }) => !optional.has(name));
  const lossScale = Number(state.find(({ name }) => name === training.step.lossScale?.scale.label)?.data[0] ?? 1);
  const files: StepFile[] = [];
  let firstItem = 0;
  for (const [micro, { images }] of training.shape.batches.entries()) {
    const drawn = await Drawn.create(gpu, training, micro, state, values);
    try {
      const arrays = await drawn.arrays(given);
      const inputs = inputsOf(training, micro, step, firstItem, given);
      files.push({ tensors: [...kept, ...arrays, ...inputs], metadata: stepSettings(training, values, lossScale) });
    } finally {
      drawn.destroy();
    }
    firstItem += images;
  }
  return files;
}

/** The part of a step that the device draws: augmented views and anchors. */
class Drawn {
  private constructor(
    private readonly replay: Replay,
    private readonly images: number,
    /** Tensors of the training and their copies here. */
    private readonly copies: ReadonlyMap<Tensor, Tensor>,
    private readonly outputs: {
      readonly views: readonly Tensor[];
      readonly anchors: ReadonlyMap<string, readonly Tensor[]>;
    },
  ) {}

  static async create(
    gpu: Gpu,
    training: Training,
    micro: number,
    state: readonly NamedArray[],
    values: StepValues,
  ): Promise<Drawn> {
    const { config, data, shape } = training;
    const graph = new Graph();
    const from = training.views[micro];
    const images = shape.batches[micro]?.images;
    if (!from || !images) throw incomplete(`micro-batch ${micro}`);
    const copies = new Map<Tensor, Tensor>();
    const copy = (tensor: Tensor): Tensor => {
      const made = graph.input(tensor.label, tensor.shape, tensor.dtype);
      copies.set(tensor, made);
      return made;
    };
    const draws = ({ table, draws: numbers }: ViewDraws): ViewDraws => ({ table: copy(table), draws: copy(numbers) });
    const inputs = { pixels: copy(from.pixels), global: draws(from.global), local: from.local && draws(from.local) };
    const views = traceViews(graph, inputs, config, data).filter((view) => view !== undefined);
    const scalars = { seed: graph.scalar('seed', 'u32'), step: graph.scalar('step', 'u32') };
    const memories: [string, Tensor][] = [];
    const anchors = new Map<string, readonly Tensor[]>();
    for (const name of TASK_NAMES) {
      const memory = declareMemory(graph, name, { ...shape[name], listed: false }, shape.network.head.out);
      memories.push([`memory.${name}`, memory.rows]);
      anchors.set(`anchors.${name}`, drawAnchors(graph, shape, name, memory, scalars).anchors);
    }
    const outputs = [...views, ...[...anchors.values()].flat()];
    const replay = new Replay(await compile(gpu, plan(graph, gpu.target, outputs)));
    replay.setScalar(scalars.seed, config.train.seed);
    replay.setScalar(scalars.step, values.step);
    for (const [name, tensor] of memories) {
      const rows = state.find((array) => array.name === name);
      if (rows?.dtype !== 'F32') throw incomplete(name);
      replay.write(tensor, rows.data as Float32Array<ArrayBuffer>);
    }
    return new Drawn(replay, images, copies, { views, anchors });
  }

  /** Views, F32 [views, B, C, side, side], and anchors of both memories, I32 [T, K]. */
  async arrays(given: (tensor: Tensor) => Elements): Promise<NamedArray[]> {
    for (const [tensor, copy] of this.copies) this.replay.write(copy, given(tensor));
    await this.replay.run();
    const arrays: NamedArray[] = [];
    for (const [i, tensor] of this.outputs.views.entries()) {
      const [rows = 0, ...rest] = tensor.shape;
      const data = (await this.replay.read(tensor)) as Float32Array;
      const name = i === 0 ? 'views.global' : 'views.local';
      arrays.push({ name, dtype: 'F32', shape: [rows / this.images, this.images, ...rest], data });
    }
    for (const [name, tasks] of this.outputs.anchors) {
      const rows: number[] = [];
      for (const task of tasks) rows.push(...(await this.replay.read(task)));
      arrays.push({
        name,
        dtype: 'I32',
        shape: [tasks.length, rows.length / tasks.length],
        data: Int32Array.from(rows),
      });
    }
    return arrays;
  }

  destroy(): void {
    this.replay.destroy();
  }
}

/** The part of a step that the host draws. @param step counted from 0 */
function inputsOf(
  training: Training,
  micro: number,
  step: number,
  firstItem: number,
  given: (tensor: Tensor) => Elements,
): NamedArray[] {
  const { config, shape } = training;
  const traced = training.step.batches[micro];
  if (!traced) throw incomplete(`micro-batch ${micro}`);
  const { inputs, images: batch } = traced;
  const patches = inputs.mask.shape[1] ?? 0;
  const rows = drawPatchRows(config.train.seed, step, firstItem, batch, patches);
  const arrays: NamedArray[] = [
    { name: 'masks', dtype: 'U8', shape: [2, batch, patches], data: Uint8Array.from(given(inputs.mask)) },
    { name: 'patch_rows', dtype: 'I32', shape: [batch], data: rows },
  ];
  if (!inputs.keep) return arrays;
  const kept = given(inputs.keep);
  const sequences = inputs.keep.shape[1] ?? 0;
  for (const [row, name] of keepNames(shape.network.vit.depth).entries()) {
    const factors = kept.subarray(row * sequences, (row + 1) * sequences);
    arrays.push({ name, dtype: 'F32', shape: [sequences], data: Float32Array.from(factors, (f) => (f > 0 ? 1 : 0)) });
  }
  return arrays;
}

function stepSettings({ config, shape }: Training, values: StepValues, lossScale: number): Map<string, string> {
  const { model, sop, loss, optim, train } = config;
  const settings: Record<string, string | number | boolean> = {
    'model.heads': shape.network.vit.heads,
    'model.drop_path': model.drop_path,
    'model.global_feature': model.global_feature,
    'sop.contributions': sop.contributions,
    'sop.smoothing': sop.smoothing,
    'sop.search': sop.search,
    'sop.cls.neighbours': sop.cls.neighbours,
    'sop.patch.neighbours': sop.patch.neighbours,
    'sop.student_temp': sop.student_temp,
    'sop.teacher_temp': values.teacherTemp,
    'loss.cls_weight': loss.cls_weight,
    'loss.patch_weight': loss.patch_weight,
    'optim.lr': values.lr,
    'optim.weight_decay': values.weightDecay,
    'optim.clip': optim.clip,
    'train.checkpoint_blocks': train.checkpoint_blocks,
    'train.precision': shape.precision,
    'train.loss_scale': lossScale,
    momentum: values.momentum,
    step: values.step,
  };
  return new Map(Object.entries(settings).map(([key, value]) => [key, String(value)]));
}

function incomplete(what: string): SopError {
  return new SopError(ExitCode.internal, {
    what: 'step that cannot be written down',
    where: what,
    why: 'nothing was drawn for it',
    fix: 'report this as a bug',
  });
}
