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
import type { TaskResult } from './losses.js';
import { maskInputs } from './masks.js';
import { studentSpecs } from './networks.js';
import { TASK_NAMES, type TaskName } from './prototypes.js';
import { dropPathRates } from './setup.js';
import { elementsFor, stateEntries } from './state.js';
import { keepNames, maskWrites, setStepValues } from './step-inputs.js';
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
  const outputs = stepOutputs(step, batch, given);
  const overflow = step.lossScale ? [step.lossScale.overflow] : [];
  const kept = [...outputs.flatMap(({ tensors }) => tensors), step.flag, ...overflow];
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, kept)));
  try {
    writeGivenState(replay, step, given);
    writeGivenStep(replay, traced, given);
    await replay.run();
    await replay.settled();
    const arrays = await collect(replay, [...outputs, ...lastingOutputs(step, given)]);
    await checkFinite(replay, step, arrays, where);
    return arrays;
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

/** What comes out under one name. */
interface Output {
  readonly name: string;
  /** More than one: results of tasks, one behind the other. */
  readonly tensors: readonly Tensor[];
  /** Of all of them together. */
  readonly shape: readonly number[];
  /** The rows that come out, where not all do. */
  readonly rows?: readonly number[] | undefined;
}

/** Values that only live inside the step. */
function stepOutputs(step: TrainStep, batch: MicroBatch, { masks, patches, shape }: DebugInput): Output[] {
  const { student, teacher } = batch.embeddings;
  const width = shape.network.head.out;
  // The student's rows are its masked patches, then padding; the teacher's are all patches.
  const masked = [...masks.keys()].filter((patch) => masks[patch]);
  const rows = { student: [...masked.keys()], teacher: masked };
  const one = (name: string, tensor: Tensor): Output => ({ name, tensors: [tensor], shape: tensor.shape });
  return [
    one('loss', step.loss.total),
    one('loss_cls', step.loss.cls),
    one('loss_patch', step.loss.patch),
    one('student.cls', student.cls),
    { name: 'student.patch', tensors: [student.patch], shape: [masked.length, width], rows: rows.student },
    one('teacher.cls', teacher.cls),
    { name: 'teacher.patch', tensors: [teacher.patch], shape: [2 * batch.images, patches, width] },
    ...taskOutputs('cls', batch.cls),
    ...taskOutputs('patch', batch.patch, rows),
  ];
}

/** Probabilities and neighbours of all tasks of a kind, along a new first axis. `rows`: of the probabilities. */
function taskOutputs(
  name: TaskName,
  tasks: readonly TaskResult[],
  rows: { readonly student?: readonly number[]; readonly teacher?: readonly number[] } = {},
): Output[] {
  const stacked = (what: string, tensors: readonly Tensor[], some?: readonly number[]): Output => {
    const [count = 0, width = 0] = tensors[0]?.shape ?? [];
    return { name: `${what}.${name}`, tensors, shape: [tensors.length, some?.length ?? count, width], rows: some };
  };
  const student = tasks.map((task) => task.student);
  const teacher = tasks.map((task) => task.teacher);
  const found = tasks.flatMap(({ prototypes }) => prototypes.neighbours ?? []);
  const index = found.map((neighbours) => neighbours.index);
  const score = found.map((neighbours) => neighbours.score);
  return [
    stacked('prob.student', student, rows.student),
    stacked('prob.teacher', teacher, rows.teacher),
    stacked('neighbours', index),
    stacked('scores', score),
  ].filter(({ tensors }) => tensors.length > 0);
}

/** Gradients, and the state after the step. */
function lastingOutputs(step: TrainStep, { shape: { network } }: DebugInput): Output[] {
  const shapes = new Map(studentSpecs(network).map((spec) => [spec.name, spec.shape]));
  const gradients = [...step.gradients].map(([name, tensor]) => ({
    name: `grad.${name}`,
    tensors: [tensor],
    shape: shapes.get(name) ?? tensor.shape,
  }));
  const state = stateEntries(step, network).filter(({ name }) => !name.startsWith('moment'));
  return [
    ...gradients,
    ...state.map(({ name, shape, tensor }) => ({ name: `updated.${name}`, tensors: [tensor], shape })),
  ];
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
  keepNames(depth).forEach((name, row) => {
    const factors = keep.subarray(row * sequences, (row + 1) * sequences);
    // A branch without draws is not dropped, as without stochastic depth.
    if (!given.tensors.has(name)) factors.fill(1);
    else factors.set(given.tensors.floats(name).map((kept) => kept / (1 - rates[row >> 1]!)));
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

async function collect(replay: Replay, outputs: readonly Output[]): Promise<NamedArray[]> {
  const arrays: NamedArray[] = [];
  for (const { name, tensors, shape, rows } of outputs) {
    const parts: Elements[] = [];
    for (const tensor of tensors) {
      const all = await replay.read(tensor);
      parts.push(rows ? pick(all, rows, tensor.shape.at(-1) ?? 1) : all);
    }
    arrays.push(named(name, shape, parts));
  }
  return arrays;
}

/** @throws NonFiniteStep */
async function checkFinite(
  replay: Replay,
  step: TrainStep,
  arrays: readonly NamedArray[],
  where: string,
): Promise<void> {
  const { flag, lossScale } = step;
  const flagged = (await replay.read(flag))[0] || (lossScale && (await replay.read(lossScale.overflow))[0]);
  if (flagged) {
    throw new NonFiniteStep(arrays, {
      what: 'the step met a number that is not finite',
      where: `${where}, ${flaggedTensor(step, flagged)}`,
      why: 'NaN or infinity; nothing was updated',
      fix: 'look for the first tensor of the output that is not finite',
    });
  }
  const written = arrays.find(
    ({ name, dtype, data }) => name.startsWith('updated.') && dtype === 'F32' && firstNonFinite(data) >= 0,
  );
  if (!written) return;
  throw new NonFiniteStep(arrays, {
    what: 'the step led to a number that is not finite',
    where: `${where}, ${written.name}`,
    why: 'NaN or infinity in the updated state; loss and gradients are finite',
    fix: 'lower optim.lr, or look at the gradients in the output',
  });
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

/** Some rows of a tensor [R, width]. */
function pick(data: Elements, rows: readonly number[], width: number): Elements {
  const picked = data.slice(0, rows.length * width);
  for (const [i, row] of rows.entries()) picked.set(data.subarray(row * width, (row + 1) * width), i * width);
  return picked;
}

/** Parts one behind the other, F32 or I32. */
function named(name: string, shape: readonly number[], parts: readonly Elements[]): NamedArray {
  const data =
    parts[0] instanceof Float32Array ? new Float32Array(elements({ shape })) : new Int32Array(elements({ shape }));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data instanceof Float32Array ? { name, dtype: 'F32', shape, data } : { name, dtype: 'I32', shape, data };
}
