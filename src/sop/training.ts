import type { Config } from '../config/schema.js';
import type { Target } from '../gpu/target.js';
import { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { counted } from '../numbers.js';
import { augment, DRAWS_WIDTH, TABLE_WIDTH } from '../ops/augment.js';
import { BindingError, bindingLimit, mebibytes } from '../plan/binding-limit.js';
import { type Plan, plan } from '../plan/plan.js';
import { TASK_NAMES } from './prototypes.js';
import { chooseSearch } from './search-choice.js';
import { microBatchSizes, noHalf, stepShape } from './setup.js';
import { fetchedTensors } from './step-result.js';
import type { StepShape, TrainStep, ViewTensors } from './step-shape.js';
import { traceTrainStep } from './train-step.js';

/** What a step must know of its images. */
export interface DataShape {
  readonly channels: 1 | 3;
  /** One number a channel, of values in [0, 1]. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Bytes of all pixels of a set that stays on the device; null when each batch is uploaded. */
  readonly residentBytes: number | null;
}

/** Tensors through which a micro-batch gets its views. */
export interface ViewInputs {
  readonly pixels: Tensor;
  readonly global: ViewDraws;
  readonly local: ViewDraws | null;
}

/** One row a view: see ops/augment.ts. */
export interface ViewDraws {
  readonly table: Tensor;
  readonly draws: Tensor;
}

/** A traced and planned training step, augmentation included. Needs no device. */
export interface Training {
  readonly config: Config;
  readonly data: DataShape;
  readonly shape: StepShape;
  /** What kept the batches from going through in one piece each: the largest tensor they would need; null where they do. */
  readonly undivided: BindingError['tensor'] | null;
  readonly graph: Graph;
  readonly step: TrainStep;
  /** One for each micro-batch; they share `pixels` when the set is resident. */
  readonly views: readonly ViewInputs[];
  /** The views of each micro-batch; those of the first can be read after a step of a watched training. */
  readonly images: readonly ViewTensors[];
  readonly plan: Plan;
  /** How neighbours are searched, a line for each memory whose prototypes have some. */
  readonly searches: readonly string[];
}

/** What a traced step keeps beyond what training needs. */
export interface TraceOptions {
  /** Keep the views and the prototypes of each step readable after it: costs their memory, changes no number. */
  readonly watched?: boolean;
}

/**
 * Images that are uploaded batch by batch are first reduced to at most this many times the area of a global view: as much
 * as ImageNet's typical 500 x 375 for views of 224, and what bounds the upload.
 */
export const UPLOAD_AREA = 6.25;

/** Bytes of an uploaded image at most. */
function uploadBytes(config: Config, channels: number): number {
  return Math.ceil((UPLOAD_AREA * config.model.image_size ** 2 * channels) / 4) * 4;
}

/**
 * Traces and plans the training of `config` on images of `data`. A batch of which some tensor exceeds a binding of `target`
 * goes through in as few micro-batches as fit: the same step within rounding (traceTrainStep).
 * @throws BindingError (69) where one image at a time does not fit, or what is too large has nothing to do with images
 */
export function traceTraining(config: Config, data: DataShape, target: Target, options: TraceOptions = {}): Training {
  let undivided: BindingError['tensor'] | null = null;
  let smallest = Number.POSITIVE_INFINITY;
  for (let parts = 1; ; ) {
    try {
      return { ...traceDivided(config, data, target, parts, options), undivided };
    } catch (error) {
      // Of the largest part: one more of them may well be as large.
      const images = Math.ceil(config.train.batch_size / parts);
      if (!(error instanceof BindingError) || !error.tensor.divisible || images === 1) throw error;
      if (error.tensor.bytes >= smallest) throw error;
      smallest = error.tensor.bytes;
      undivided ??= error.tensor;
      const fitting = Math.floor((images * error.limit) / error.tensor.bytes);
      parts = Math.ceil(config.train.batch_size / Math.max(1, Math.min(images - 1, fitting)));
    }
  }
}

function traceDivided(
  config: Config,
  data: DataShape,
  target: Target,
  parts: number,
  { watched = false }: TraceOptions,
): Omit<Training, 'undivided'> {
  const graph = new Graph();
  const sizes = microBatchSizes(config, parts);
  const search = {
    cls: chooseSearch(config, 'cls', sizes, target),
    patch: chooseSearch(config, 'patch', sizes, target),
  };
  const shape = stepShape(config, data.channels, target, sizes, search);
  const resident = data.residentBytes === null ? null : pixelInput(graph, data.residentBytes);
  const views: ViewInputs[] = [];
  const images: ViewTensors[] = [];
  for (const count of sizes) {
    const pixels = resident ?? pixelInput(graph, count * uploadBytes(config, data.channels));
    const { global, local } = drawInputs(graph, count, config.views.local_count);
    views.push({ pixels, global, local });
    images.push(graph.scope('augment', () => traceViews(graph, { pixels, global, local }, config, data)));
  }
  const step = traceTrainStep(graph, shape, images);
  const kept = [...fetchedTensors(step), ...(watched ? watchedTensors(step, images[0]) : [])];
  const searches = TASK_NAMES.flatMap((name) => {
    const { reason } = search[name];
    return reason === null ? [] : [`${name === 'cls' ? '[CLS]' : 'patches'} ${reason}`];
  });
  return { config, data, shape, graph, step, views, images, plan: plan(graph, target, kept), searches };
}

/** The augmented views of a micro-batch. */
export function traceViews(
  graph: Graph,
  { pixels, global, local }: ViewInputs,
  { model }: Config,
  { channels, mean, std }: DataShape,
): ViewTensors {
  const view = (draws: ViewDraws, size: number): Tensor =>
    graph.one(augment, [pixels, draws.table, draws.draws], { channels, size, mean, std });
  const whole = view(global, model.image_size);
  return local ? [whole, view(local, model.local_size)] : [whole];
}

function pixelInput(graph: Graph, bytes: number): Tensor {
  return graph.input('pixels', [Math.ceil(bytes / 4)], 'u32');
}

/** What people look at: the views of the first micro-batch and the prototypes of the first [CLS] task. */
function watchedTensors({ batches }: TrainStep, images: readonly (Tensor | undefined)[] = []): Tensor[] {
  const prototypes = batches[0].cls[0]?.prototypes;
  const organized = prototypes && [prototypes.anchors, prototypes.neighbours?.index, prototypes.contributions];
  return [...images, ...(organized ?? [])].filter((tensor) => tensor !== undefined);
}

function drawInputs(graph: Graph, batch: number, locals: number): Pick<ViewInputs, 'global' | 'local'> {
  const inputs = (name: string, views: number): ViewDraws => ({
    table: graph.input(`${name}_table`, [views, TABLE_WIDTH], 'u32'),
    draws: graph.input(`${name}_draws`, [views, DRAWS_WIDTH]),
  });
  return { global: inputs('global', 2 * batch), local: locals > 0 ? inputs('local', locals * batch) : null };
}

/** What becomes of `train.precision: f16`, for people: a phrase, and whether the adapter refuses it; null where f32 was asked for. */
export function describePrecision({ config, shape, plan }: Training): { text: string; refused: boolean } | null {
  if (config.train.precision === 'f32') return null;
  const rest = 'sums, normalisations, weights, gradients of weights, head and losses f32';
  return shape.precision === 'f32'
    ? { text: noHalf(plan.target), refused: true }
    : { text: `f16 for activations and copies of weights; ${rest}`, refused: false };
}

/** How the images of a step go through the networks, for people: one line. */
export function describeBatches({ shape, undivided, plan: { target } }: Training): string {
  const sizes = shape.batches.map(({ images }) => images);
  const total = sizes.reduce((sum, images) => sum + images, 0);
  if (sizes.length === 1) return `batch       ${counted(total, 'image')} at once`;
  const most = Math.max(...sizes);
  const uneven = Math.min(...sizes) < most ? `${most - 1} or ` : '';
  const parts = `batch       ${total} images in ${sizes.length} parts of ${uneven}${most}, gradients added up`;
  if (!undivided) return parts;
  return `${parts}: at once they need ${mebibytes(undivided.bytes)} MiB in one binding (${undivided.label}), ${target.name} allows ${mebibytes(bindingLimit(target))}`;
}
