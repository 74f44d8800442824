import { differentiate } from '../graph/differentiate.js';
import type { Graph } from '../graph/graph.js';
import type { RealType, Tensor } from '../graph/tensor.js';
import type { Parameters } from '../nn/parameters.js';
import { gridSide, halfMatrices, type Views } from '../nn/vit.js';
import { add } from '../ops/add.js';
import { gatherRows } from '../ops/gather_rows.js';
import { sampleRows } from '../ops/sample_rows.js';
import { updateEma } from '../ops/update_ema.js';
import { updateFlag } from '../ops/update_flag.js';
import { weightedSum } from '../ops/weighted_sum.js';
import { ADAMW, adamw, type ParameterPack, packParameters } from '../optim/adamw.js';
import { taskStream } from '../rng.js';
import { adaptLossScale, declareLossScale, type LossScale } from './loss-scale.js';
import { clsPairs, meanEntropy, meanLoss, type Pairs, type TaskResult, taskLoss } from './losses.js';
import { declareMemory, insert, type Memory } from './memory.js';
import type { Search } from './neighbour-lists.js';
import { declareNetworks, type Embeddings, embed, type NetworkShape, studentSpecs } from './networks.js';
import {
  organize,
  type PrototypeOptions,
  type Prototypes,
  prepareSearch,
  selectLowEnergy,
  type TaskShape,
} from './prototypes.js';

/** Sizes of a micro-batch: images that go forward and backward together. */
export interface BatchShape {
  /** B. */
  readonly images: number;
  /** Length of the list of masked patches; shorter lists are padded. */
  readonly maskedPatches: number;
  /** Length of the list of teacher patches that reach the head: the partners of masked ones, and those that E_P gets. */
  readonly teacherPatches: number;
}

/** Everything about a step that is fixed when it is traced. */
export interface StepShape {
  readonly network: NetworkShape;
  /** The micro-batches of a step, in order; one where the images of a step fit into the device together. */
  readonly batches: readonly [BatchShape, ...BatchShape[]];
  readonly prototypes: PrototypeOptions;
  readonly cls: TaskShape;
  readonly patch: TaskShape;
  readonly clsWeight: number;
  readonly patchWeight: number;
  /** Whether residual branches are dropped (the input `keep` exists). */
  readonly dropPath: boolean;
  /** Whether the student's blocks run again in the backward pass instead of keeping their activations. */
  readonly recompute: boolean;
  /** Of what flows through the backbones and of the copies of their matrices; all else is f32. */
  readonly precision: RealType;
  readonly clip: number;
  /**
   * `given`: anchors are inputs; `sampled`: drawn on the device; `fixed`: drawn as in step 0, always (Table C.7);
   * `low-energy`: drawn by the spread of their neighbours' scores, as `sampled` where an anchor has fewer than two.
   */
  readonly anchors: 'given' | 'sampled' | 'fixed' | 'low-energy';
  /** Elements of one buffer binding. */
  readonly maxElements: number;
}

/** Numbers that change from step to step. */
export function stepScalars(graph: Graph) {
  return {
    lr: graph.scalar('lr'),
    weightDecay: graph.scalar('weight_decay'),
    correction1: graph.scalar('correction1'),
    correction2: graph.scalar('correction2'),
    momentum: graph.scalar('momentum'),
    studentTemp: graph.scalar('student_temp'),
    teacherTemp: graph.scalar('teacher_temp'),
    seed: graph.scalar('seed', 'u32'),
    /** Counts optimizer steps; picks the anchors. */
    step: graph.scalar('step', 'u32'),
  };
}
export type StepScalars = ReturnType<typeof stepScalars>;

/** What the host writes for each micro-batch, besides the images. */
function batchInputs(
  graph: Graph,
  { network: { vit }, dropPath }: StepShape,
  { images, maskedPatches, teacherPatches }: BatchShape,
  globalSize: number,
  sequences: number,
) {
  const globals = 2 * images;
  return {
    /** u32 [2 B, L]: 1 at masked patches of the global views. */
    mask: graph.input('mask', [globals, gridSide(globalSize, vit.patch) ** 2], 'u32'),
    /** f32 [2 depth, V B]: factors of the residual branches (vit.ts), where branches are dropped. */
    keep: dropPath ? graph.input('keep', [2 * vit.depth, sequences]) : null,
    /** u32: token rows of the masked patches; `NONE` pads. */
    maskedRows: graph.input('masked_rows', [maskedPatches], 'u32'),
    /** u32: token rows of the teacher's patches that reach the head. */
    teacherRows: graph.input('teacher_rows', [teacherPatches], 'u32'),
    /** For each masked patch its partner among the teacher's patches, and 1 / (its image's masked patches x 2 B). */
    patchPairs: {
      partners: graph.input('patch_partners', [maskedPatches, 2], 'u32'),
      weights: graph.input('patch_weights', [maskedPatches]),
    } satisfies Pairs,
    /** u32 [B]: which of the teacher's patches E_P gets. */
    insertedRows: graph.input('inserted_rows', [images], 'u32'),
  };
}
export type BatchInputs = ReturnType<typeof batchInputs>;

/** Views of B images: global ones [2 B, C, H, W], then local ones [(V - 2) B, C, h, w] if there are any, view-major. */
export type ViewTensors = readonly [global: Tensor, local?: Tensor];

/** Forward and backward of B images. */
export interface MicroBatch {
  /** B. */
  readonly images: number;
  /** What these images are of all that the step sees: their weight in its losses and gradients. */
  readonly share: number;
  readonly inputs: BatchInputs;
  readonly embeddings: { readonly student: Embeddings; readonly teacher: Embeddings };
  readonly cls: readonly TaskResult[];
  readonly patch: readonly TaskResult[];
  readonly loss: { readonly total: Tensor; readonly cls: Tensor; readonly patch: Tensor };
  /** One for each parameter of the student, in its order; null where the loss does not depend on it. */
  readonly gradients: readonly (Tensor | null)[];
}

/** The prototypes of all tasks of a step: its micro-batches share them. */
interface StepPrototypes {
  readonly cls: readonly Prototypes[];
  readonly patch: readonly Prototypes[];
}

/** A traced step: what to write, what to read, what it changes. */
export interface TrainStep {
  readonly scalars: StepScalars;
  readonly student: Parameters;
  readonly teacher: Parameters;
  readonly moments: readonly [Parameters, Parameters];
  readonly memory: { readonly cls: Memory; readonly patch: Memory };
  readonly batches: readonly [MicroBatch, ...MicroBatch[]];
  /** Means over the images of all micro-batches, [1] each. */
  readonly loss: { readonly total: Tensor; readonly cls: Tensor; readonly patch: Tensor };
  /** Gradients of the student's parameters, before clipping. */
  readonly gradients: Parameters;
  readonly packs: readonly ParameterPack[];
  /** Mean entropy of the teacher's [CLS] predictions, nats: falls to 0 or sticks at ln K when training collapses. */
  readonly teacherEntropy: Tensor;
  /**
   * u32 [1], state: 0, or 1 + the place of the first non-finite number in [loss, squared gradient norms...]. Stays up until
   * the host writes 0.
   */
  readonly flag: Tensor;
  /** Where gradients pass through f16; else null. */
  readonly lossScale: LossScale | null;
  /** f32 [2] each: sums of squares of parameters and of their update. */
  readonly norms: readonly Tensor[];
  /** u32 [1] for each memory that keeps lists of neighbours: those that were searched anew. */
  readonly recomputed: readonly Tensor[];
}

/**
 * The SOP training step (method.md section 5, the paper's pseudo-code A.1), in its order. More than one micro-batch is
 * gradient accumulation: the anchors of the step serve all of them and the memories are filled once, at the end. Both losses
 * are means over images, so the step is the same, within rounding, however its images are divided.
 * `views` has those of each micro-batch.
 */
export function traceTrainStep(graph: Graph, shape: StepShape, views: readonly ViewTensors[]): TrainStep {
  const { network } = shape;
  const scalars = stepScalars(graph);
  const { student, teacher } = declareNetworks(graph, network);
  const half = shape.precision === 'f16';
  const used = {
    student: half ? graph.scope('student', () => halfMatrices(graph, student)) : student,
    teacher: half ? graph.scope('teacher', () => halfMatrices(graph, teacher)) : teacher,
  };
  const scaling = half ? declareLossScale(graph) : null;
  const memory = {
    cls: declareMemory(graph, 'cls', shape.cls, network.head.out),
    patch: declareMemory(graph, 'patch', shape.patch, network.head.out),
  };

  // Prototypes from the memories as they are before this step.
  const organizeAll = (name: 'cls' | 'patch') => {
    const { anchors, search } = drawAnchors(graph, shape, name, memory[name], scalars);
    const tasks = anchors.map((rows) => organize(graph, memory[name], rows, shape[name], search, shape.prototypes));
    return { search, tasks };
  };
  const organized = {
    cls: graph.scope('sop.cls', () => organizeAll('cls')),
    patch: graph.scope('sop.patch', () => organizeAll('patch')),
  };
  const prototypes = { cls: organized.cls.tasks, patch: organized.patch.tasks };
  const searches = [organized.cls.search, organized.patch.search].filter((search) => search !== null);

  // Forward and backward, one micro-batch after the other.
  const parameters = [...student.values()];
  const images = shape.batches.reduce((sum, batch) => sum + batch.images, 0);
  const run = (batch: BatchShape, index: number): MicroBatch => {
    const seen = views[index];
    if (!seen) throw new RangeError(`micro-batch ${index} has no views`);
    const share = batch.images / images;
    const differentiated = { parameters, ...(scaling && { seed: scaling.scale }) };
    return microBatch(graph, shape, used, differentiated, prototypes, scalars, { ...batch, views: seen, share });
  };
  const [first, ...others] = shape.batches;
  const batches: [MicroBatch, ...MicroBatch[]] = [run(first, 0)];
  let sums = batches[0].gradients;
  for (const [i, batch] of others.entries()) {
    // Added up as they come, so that at most two sets of gradients are alive.
    const next = run(batch, i + 1);
    batches.push(next);
    sums = sums.map((sum, i) => sumOf(graph, sum, next.gradients[i] ?? null));
  }
  const mean = (of: (batch: MicroBatch) => Tensor): Tensor =>
    graph.one(weightedSum, batches.map(of), { weights: batches.map(({ share }) => share) });
  const loss = { total: mean((b) => b.loss.total), cls: mean((b) => b.loss.cls), patch: mean((b) => b.loss.patch) };
  const gradients = parameters.map((parameter, i) => sums[i] ?? graph.state(`gradient.none.${i}`, parameter.shape));

  // The norm of every gradient, and one flag that gates all that follows.
  const moments = [momentsOf(graph, 'moment1', student), momentsOf(graph, 'moment2', student)] as const;
  const packed = { parameters, gradients, moments: [[...moments[0].values()], [...moments[1].values()]] as const };
  const packs = packParameters(graph, packed, shape.maxElements, scaling?.scale);
  const flag = graph.state('flag', [1], 'u32');
  graph.add(updateFlag, [flag, loss.total, ...packs.map(({ squares }) => squares)], {});

  // AdamW, teacher, memories.
  const decays = new Set(studentSpecs(network).flatMap(({ name, decay }) => (decay ? (student.get(name) ?? []) : [])));
  const { lr, weightDecay, correction1, correction2, momentum } = scalars;
  const options = { ...ADAMW, clip: shape.clip };
  const norms = graph.scope('optim', () =>
    packs.map((pack) =>
      adamw(graph, flag, pack, (tensor) => decays.has(tensor), { lr, weightDecay, correction1, correction2 }, options),
    ),
  );
  graph.scope('teacher', () => {
    graph.pack('teacher', [...teacher.values()], shape.maxElements).forEach(({ flat }, i) => {
      const source = packs[i]?.parameters.flat;
      if (source) graph.add(updateEma, [flag, flat, source], { momentum });
    });
  });
  graph.scope('memory', () => {
    for (const search of searches) search.keep(flag);
    for (const { embeddings, inputs, images } of batches) {
      const second = Uint32Array.from({ length: images }, (_, image) => images + image);
      const secondView = graph.constant('second_global_view', [images], second);
      insert(graph, flag, memory.cls, graph.one(gatherRows, [embeddings.teacher.cls, secondView], {}));
      insert(graph, flag, memory.patch, graph.one(gatherRows, [embeddings.teacher.patch, inputs.insertedRows], {}));
    }
  });

  const lossScale = scaling && adaptLossScale(graph, flag, scaling);
  const teacherEntropy = meanEntropy(graph, batches[0].cls[0]!.teacher);
  const named = new Map([...student.keys()].map((name, i) => [name, gradients[i]!]));
  return {
    scalars,
    student,
    teacher,
    moments,
    memory,
    batches,
    loss,
    gradients: named,
    packs,
    teacherEntropy,
    flag,
    lossScale,
    norms,
    recomputed: searches.flatMap(({ recomputed }) => recomputed ?? []),
  };
}

/**
 * Teacher on the two global views, unmasked; student on the masked global views and the local ones; both losses; the
 * gradients of `share` times their weighted sum, times `seed` where it is given.
 */
function microBatch(
  graph: Graph,
  shape: StepShape,
  networks: { readonly student: Parameters; readonly teacher: Parameters },
  { parameters, seed }: { readonly parameters: readonly Tensor[]; readonly seed?: Tensor },
  prototypes: StepPrototypes,
  scalars: StepScalars,
  batch: BatchShape & { readonly views: ViewTensors; readonly share: number },
): MicroBatch {
  const { network } = shape;
  const { images, share } = batch;
  const [global, local] = batch.views;
  const tensors = local ? [global, local] : [global];
  const sequences = tensors.reduce((sum, { shape: [count = 0] }) => sum + count, 0);
  const inputs = batchInputs(graph, shape, batch, global.shape[2] ?? 0, sequences);
  const seen: Views = {
    images: tensors,
    mask: inputs.mask,
    recompute: shape.recompute,
    ...(inputs.keep && { keep: inputs.keep }),
  };
  const teacher = graph.scope('teacher', () =>
    embed(graph, network, networks.teacher, { images: [global] }, inputs.teacherRows),
  );
  const student = graph.scope('student', () => embed(graph, network, networks.student, seen, inputs.maskedRows));

  const temperatures = { student: scalars.studentTemp, teacher: scalars.teacherTemp };
  const losses = (name: 'cls' | 'patch', pairs: Pairs): TaskResult[] =>
    graph.scope(`sop.${name}`, () =>
      prototypes[name].map((task) =>
        taskLoss(graph, task, { student: student[name], teacher: teacher[name] }, pairs, temperatures),
      ),
    );
  const cls = losses('cls', clsPairs(graph, images, sequences / images));
  const patch = losses('patch', inputs.patchPairs);
  const means = { cls: meanLoss(graph, cls), patch: meanLoss(graph, patch) };
  const total = graph.one(weightedSum, [means.cls, means.patch], { weights: [shape.clsWeight, shape.patchWeight] });

  const weighted = share === 1 ? total : graph.one(weightedSum, [total], { weights: [share] });
  const gradients = differentiate(graph, weighted, parameters, add, seed);
  const embeddings = { student, teacher };
  return { images, share, inputs, embeddings, cls, patch, loss: { total, ...means }, gradients };
}

/** a + b, where either may be nothing. */
function sumOf(graph: Graph, a: Tensor | null, b: Tensor | null): Tensor | null {
  return a && b ? graph.one(add, [a, b], {}) : (a ?? b);
}

/** The anchors of all tasks, u32 [K] each, and the search that finds their neighbours. */
export function drawAnchors(
  graph: Graph,
  shape: StepShape,
  name: 'cls' | 'patch',
  memory: Memory,
  scalars: Pick<StepScalars, 'seed' | 'step'>,
): { readonly anchors: readonly Tensor[]; readonly search: Search | null } {
  const task = shape[name];
  const rows = Array.from({ length: task.tasks }, (_, index) => drawRows(graph, shape, name, index, scalars));
  const search = prepareSearch(graph, memory, task, shape.prototypes, rows);
  if (!search || !isLowEnergy(shape, task)) return { anchors: rows, search };
  const { seed, step } = scalars;
  const anchors = rows.map((candidates, index) => {
    const stream = taskStream(name === 'cls' ? 'selectCls' : 'selectPatch', index);
    return selectLowEnergy(graph, candidates, task, search, { seed, step, stream });
  });
  return { anchors, search };
}

/** Anchors whose neighbours decide about them need at least two each. */
function isLowEnergy({ anchors }: StepShape, { neighbours }: TaskShape): boolean {
  return anchors === 'low-energy' && neighbours >= 2;
}

/** The anchors of a task, or twice as many candidates where these are yet to be chosen. */
function drawRows(
  graph: Graph,
  shape: StepShape,
  name: 'cls' | 'patch',
  index: number,
  scalars: Pick<StepScalars, 'seed' | 'step'>,
): Tensor {
  const task = shape[name];
  if (shape.anchors === 'given') return graph.input(`anchors.${name}.${index}`, [task.anchors], 'u32');
  const stream = taskStream(name === 'cls' ? 'anchorsCls' : 'anchorsPatch', index);
  const step = shape.anchors === 'fixed' ? graph.scalar('fixed_step', 'u32') : scalars.step;
  const count = isLowEnergy(shape, task) ? 2 * task.anchors : task.anchors;
  return graph.one(sampleRows, [], { count, from: task.memory, stream, seed: scalars.seed, step });
}

/** AdamW's moments: one state tensor for each parameter, starting at zero. */
function momentsOf(graph: Graph, label: string, parameters: Parameters): Parameters {
  return new Map([...parameters].map(([name, { shape }]) => [name, graph.state(`${label}.${name}`, shape)]));
}

/** What a raised flag points at: 1 is the loss, then the gradients of all packs in order. */
export function flaggedTensor({ packs }: TrainStep, flag: number): string {
  const parameters = packs.flatMap(({ parameters: pack }) => pack.members);
  return flag === 1 ? 'loss' : `gradient of ${parameters[flag - 2]?.label ?? 'an unknown tensor'}`;
}

/** What the host reads of each step: losses, flag, entropy, squares and norms of each pack, counts of lists, the loss's scale. */
export function fetchedTensors(step: TrainStep): Tensor[] {
  const { loss, flag, teacherEntropy, packs, norms, recomputed, lossScale } = step;
  const squares = packs.map((pack) => pack.squares);
  const scaling = lossScale ? [lossScale.scale, lossScale.counts, lossScale.overflow] : [];
  return [loss.total, loss.cls, loss.patch, flag, teacherEntropy, ...squares, ...norms, ...recomputed, ...scaling];
}
