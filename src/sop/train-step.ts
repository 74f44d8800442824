import { differentiate } from '../graph/differentiate.js';
import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import type { Parameters } from '../nn/parameters.js';
import { halfMatrices, type Views } from '../nn/vit.js';
import { add } from '../ops/add.js';
import { gatherRows } from '../ops/gather_rows.js';
import { updateEma } from '../ops/update_ema.js';
import { updateFlag } from '../ops/update_flag.js';
import { weightedSum } from '../ops/weighted_sum.js';
import { ADAMW, adamw, packParameters } from '../optim/adamw.js';
import { drawAnchors } from './anchors.js';
import { adaptLossScale, declareLossScale } from './loss-scale.js';
import { clsPairs, meanEntropy, meanLoss, type Pairs, type TaskResult, taskLoss } from './losses.js';
import { declareMemory, insert } from './memory.js';
import { declareNetworks, embed, studentSpecs } from './networks.js';
import { organize, type Prototypes, type TaskName } from './prototypes.js';
import { batchInputs, type StepScalars, stepScalars } from './step-inputs.js';
import type { BatchShape, MicroBatch, StepShape, TrainStep, ViewTensors } from './step-shape.js';

/**
 * The SOP training step (the paper's pseudo-code, Appendix A.1), in its order. More than one micro-batch is
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
  const organizeAll = (name: TaskName) => {
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
  const { lr, weightDecay, correction1, correction2, teacherRate, step } = scalars;
  const options = { ...ADAMW, clip: shape.clip };
  const norms = graph.scope('optim', () =>
    packs.map((pack) => {
      const numbers = { lr, weightDecay, correction1, correction2 };
      const skipped = scaling && { counts: scaling.counts, step };
      return adamw(graph, flag, pack, (tensor) => decays.has(tensor), numbers, options, skipped);
    }),
  );
  graph.scope('teacher', () => {
    graph.pack('teacher', [...teacher.values()], shape.maxElements).forEach(({ flat }, i) => {
      const source = packs[i]?.parameters.flat;
      if (source) graph.add(updateEma, [flag, flat, source], { rate: teacherRate });
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
  prototypes: Readonly<Record<TaskName, readonly Prototypes[]>>,
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
  const losses = (name: TaskName, pairs: Pairs): TaskResult[] =>
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

/** AdamW's moments: one state tensor for each parameter, starting at zero. */
function momentsOf(graph: Graph, label: string, parameters: Parameters): Parameters {
  return new Map([...parameters].map(([name, { shape }]) => [name, graph.state(`${label}.${name}`, shape)]));
}
