import { firstNonFinite } from '../data/checkpoint.js';
import type { NamedArray } from '../data/safetensors.js';
import { type Complaint, ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import { elements, type Tensor } from '../graph/tensor.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';
import { type DebugInput, readDebugInput } from './debug-input.js';
import { maskInputs } from './masks.js';
import { studentSpecs } from './networks.js';
import { TASK_NAMES } from './prototypes.js';
import { dropPathRates } from './setup.js';
import { elementsFor, stateEntries } from './state.js';
import { maskWrites, setStepValues } from './step-inputs.js';
import { flaggedTensor } from './step-result.js';
import type { MicroBatch, TrainStep } from './step-shape.js';
import { traceTrainStep } from './train-step.js';

/**
 * One training step with everything given: weights, views, masks, anchors, memories (`sop-gpu debug step --help`). Returns
 * every intermediate value, all gradients and the updated state. The step is the one that `train` runs, traced with the
 * same function; only anchors, views and draws come from the file.
 * @throws NonFiniteStep (70) with all results where loss, a gradient or the updated state is not finite; SopError 65 for a
 * tensor that is missing or does not fit, 64 for a setting; what `compile` throws
 */
export async function debugStep(
  gpu: Gpu,
  tensors: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
  where: string,
): Promise<NamedArray[]> {
  const given = readDebugInput(tensors, metadata, where, gpu.target);
  const traced = traceGivenStep(given);
  const { graph, step } = traced;
  const [batch] = step.batches;
  const outputs = outputTensors(step, batch);
  const overflow = step.lossScale ? [step.lossScale.overflow] : [];
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [...outputs.values(), step.flag, ...overflow])));
  try {
    writeGivenState(replay, step, given);
    writeGivenStep(replay, traced, given);
    await replay.run();
    await replay.settled();
    return await collect(replay, step, batch, outputs, given);
  } finally {
    replay.destroy();
  }
}

/** A step of which the views, masks, anchors and draws are inputs. */
export interface GivenStep {
  readonly graph: Graph;
  readonly step: TrainStep;
  readonly views: readonly [global: Tensor, local?: Tensor];
}

/** Traces the step of `train` for images and draws of the sizes of `given`. */
export function traceGivenStep({ shape, views, globalSize, localSize }: DebugInput): GivenStep {
  const { vit } = shape.network;
  const graph = new Graph();
  const images = (label: string, count: number, side: number): Tensor =>
    graph.input(label, [count * shape.batches[0].images, vit.channels, side, side]);
  const globalViews = images('views.global', 2, globalSize);
  const both: GivenStep['views'] =
    views > 2 ? [globalViews, images('views.local', views - 2, localSize)] : [globalViews];
  return { graph, step: traceTrainStep(graph, shape, [both]), views: both };
}

/** Writes everything that a step is given, except its state. */
export function writeGivenStep(replay: Replay, { graph, step, views }: GivenStep, given: DebugInput): void {
  const [globalViews, localViews] = views;
  replay.write(globalViews, given.tensors.floats('views.global'));
  if (localViews) replay.write(localViews, given.tensors.floats('views.local'));
  writeInputs(replay, step.batches[0], given);
  writeAnchors(replay, graph, given);
  setStepValues(replay, step.scalars, given.values);
  replay.setScalar(step.scalars.studentTemp, given.values.studentTemp);
}

/** Tensors that only live inside the step, by the name of the file that they come out under. */
function outputTensors({ loss }: TrainStep, { embeddings, cls, patch }: MicroBatch): Map<string, Tensor> {
  const outputs = new Map([
    ['loss', loss.total],
    ['loss_cls', loss.cls],
    ['loss_patch', loss.patch],
    ['student.cls', embeddings.student.cls],
    ['student.patch', embeddings.student.patch],
    ['teacher.cls', embeddings.teacher.cls],
    ['teacher.patch', embeddings.teacher.patch],
  ]);
  for (const [name, tasks] of [
    ['cls', cls],
    ['patch', patch],
  ] as const) {
    tasks.forEach(({ prototypes, student, teacher }, task) => {
      outputs.set(`prob.student.${name}/${task}`, student);
      outputs.set(`prob.teacher.${name}/${task}`, teacher);
      if (!prototypes.neighbours) return;
      outputs.set(`neighbours.${name}/${task}`, prototypes.neighbours.index);
      outputs.set(`scores.${name}/${task}`, prototypes.neighbours.score);
    });
  }
  return outputs;
}

/** Writes weights, memories and moments; moments that are not given are 0. */
export function writeGivenState(replay: Replay, step: TrainStep, { tensors, shape, values, where }: DebugInput): void {
  for (const entry of stateEntries(step, shape.network)) {
    if (entry.optional) continue;
    const zero = entry.name.startsWith('moment') && !tensors.has(entry.name);
    const given = (): Elements => elementsFor(entry, tensors.get(entry.name), where);
    replay.write(entry.tensor, zero ? new Float32Array(elements(entry)) : given());
  }
  if (!step.lossScale) return;
  replay.write(step.lossScale.scale, Float32Array.of(values.lossScale));
  replay.write(step.lossScale.counts, new Uint32Array(2));
}

function writeInputs(replay: Replay, { inputs }: MicroBatch, given: DebugInput): void {
  const { shape, masks, patchRows } = given;
  const [batch] = shape.batches;
  const lists = maskInputs({
    masks,
    patchRows,
    batch: batch.images,
    patches: given.patches,
    maskedPatches: batch.maskedPatches,
    layout: 'all',
  });
  for (const [tensor, data] of maskWrites(inputs, lists)) replay.write(tensor, data);
  if (!inputs.keep) return;
  const { depth } = shape.network.vit;
  const rates = dropPathRates(given.dropPath, depth);
  const sequences = given.views * batch.images;
  const keep = new Float32Array(2 * depth * sequences);
  rates.forEach((rate, block) => {
    (['attn', 'mlp'] as const).forEach((branch, i) => {
      const name = `keep.${block}.${branch}`;
      const first = (2 * block + i) * sequences;
      // A branch without draws is not dropped, as without stochastic depth.
      if (!given.tensors.has(name)) keep.fill(1, first, first + sequences);
      else
        keep.set(
          given.tensors.floats(name).map((value) => value / (1 - rate)),
          first,
        );
    });
  });
  replay.write(inputs.keep, keep);
}

function writeAnchors(replay: Replay, graph: Graph, given: DebugInput): void {
  for (const name of TASK_NAMES) {
    const { tasks, anchors, memory } = given.shape[name];
    const rows = given.tensors.indices(`anchors.${name}`, memory);
    for (let task = 0; task < tasks; task++) {
      const tensor = graph.tensors.find(({ label }) => label === `anchors.${name}.${task}`);
      if (tensor) replay.write(tensor, Uint32Array.from(rows.subarray(task * anchors, (task + 1) * anchors)));
    }
  }
}

async function collect(
  replay: Replay,
  step: TrainStep,
  { inputs }: MicroBatch,
  outputs: ReadonlyMap<string, Tensor>,
  given: DebugInput,
): Promise<NamedArray[]> {
  const { shape, maskedCount } = given;
  const { flag, lossScale } = step;
  const flagged = (await replay.read(flag))[0] || (lossScale && (await replay.read(lossScale.overflow))[0]);
  const arrays: NamedArray[] = [];
  const tasks = new Map<string, { tensor: Tensor; data: Elements }[]>();
  for (const [key, tensor] of outputs) {
    const [name = key, task] = key.split('/');
    const data = await replay.read(tensor);
    if (task === undefined) arrays.push(named(name, tensor.shape, data));
    else tasks.set(name, [...(tasks.get(name) ?? []), { tensor, data }]);
  }
  const partners = (await replay.read(inputs.patchPairs.partners)) as Uint32Array;
  for (const [name, results] of tasks) {
    const picked = results.map(({ tensor, data }) => {
      const width = tensor.shape.at(-1) ?? 1;
      if (name === 'prob.student.patch')
        return { shape: [maskedCount, width], data: data.slice(0, maskedCount * width) };
      if (name !== 'prob.teacher.patch') return { shape: tensor.shape, data };
      // The teacher's probabilities of all patches are there; the file wants those of the masked ones.
      const rows = new Float32Array(maskedCount * width);
      for (let row = 0; row < maskedCount; row++)
        rows.set(data.subarray(partners[2 * row]! * width, (partners[2 * row]! + 1) * width), row * width);
      return { shape: [maskedCount, width], data: rows };
    });
    arrays.push(stack(name, picked));
  }
  const patch = arrays.findIndex(({ name }) => name === 'student.patch');
  const width = shape.network.head.out;
  const all = arrays[patch];
  if (all?.dtype === 'F32')
    arrays[patch] = { ...all, shape: [maskedCount, width], data: all.data.slice(0, maskedCount * width) };
  const teacherPatch = arrays.findIndex(({ name }) => name === 'teacher.patch');
  const flat = arrays[teacherPatch];
  if (flat?.dtype === 'F32')
    arrays[teacherPatch] = { ...flat, shape: [2 * shape.batches[0].images, given.patches, width] };

  const shapes = new Map(studentSpecs(shape.network).map((spec) => [spec.name, spec.shape]));
  for (const [name, tensor] of step.gradients)
    arrays.push(named(`grad.${name}`, shapes.get(name) ?? tensor.shape, await replay.read(tensor)));
  for (const { name, shape: outer, tensor } of stateEntries(step, shape.network)) {
    if (!name.startsWith('moment')) arrays.push(named(`updated.${name}`, outer, await replay.read(tensor)));
  }
  if (flagged) {
    throw new NonFiniteStep(arrays, {
      what: 'the step met a number that is not finite',
      where: `${given.where}, ${flaggedTensor(step, flagged)}`,
      why: 'NaN or infinity; nothing was updated',
      fix: 'look for the first tensor of the output that is not finite',
    });
  }
  const written = arrays.find(
    ({ name, dtype, data }) => name.startsWith('updated.') && dtype === 'F32' && firstNonFinite(data) >= 0,
  );
  if (written) {
    throw new NonFiniteStep(arrays, {
      what: 'the step led to a number that is not finite',
      where: `${given.where}, ${written.name}`,
      why: 'NaN or infinity in the updated state; loss and gradients are finite',
      fix: 'lower optim.lr, or look at the gradients in the output',
    });
  }
  return arrays;
}

/** Everything was computed, but loss, a gradient or what was updated is not finite (exit 70). */
export class NonFiniteStep extends SopError {
  constructor(
    readonly results: readonly NamedArray[],
    complaint: Complaint,
  ) {
    super(ExitCode.internal, complaint);
  }
}

function named(name: string, shape: readonly number[], data: Elements): NamedArray {
  if (data instanceof Float32Array) return { name, dtype: 'F32', shape, data };
  return { name, dtype: 'I32', shape, data: Int32Array.from(data) };
}

/** Results of all tasks along a new first axis. */
function stack(
  name: string,
  parts: readonly { readonly shape: readonly number[]; readonly data: Elements }[],
): NamedArray {
  const [first] = parts;
  const shape = [parts.length, ...(first?.shape ?? [])];
  const size = elements(first);
  const data =
    first?.data instanceof Float32Array ? new Float32Array(parts.length * size) : new Uint32Array(parts.length * size);
  for (const [i, part] of parts.entries()) data.set(part.data, i * size);
  return named(name, shape, data);
}
