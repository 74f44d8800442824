import type { Config } from '../config/schema.js';
import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { augment, DRAWS_WIDTH, TABLE_WIDTH } from '../ops/augment.js';
import { type Plan, plan } from '../plan/plan.js';
import { stepShape } from './setup.js';
import type { StepShape, TrainStep, ViewTensors } from './train-step.js';
import { fetchedTensors, traceTrainStep } from './train-step.js';

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
  readonly graph: Graph;
  readonly step: TrainStep;
  /** One for each micro-batch; they share `pixels` when the set is resident. */
  readonly views: readonly ViewInputs[];
  readonly plan: Plan;
}

/**
 * Images that are uploaded batch by batch are first reduced to at most this many times the area of a global view: as much
 * as ImageNet's typical 500 x 375 for views of 224, and what bounds the upload.
 */
export const UPLOAD_AREA = 6.25;

/** Bytes of an uploaded image at most. */
export function uploadBytes(config: Config, channels: number): number {
  return Math.ceil((UPLOAD_AREA * config.model.image_size ** 2 * channels) / 4) * 4;
}

/** Traces and plans the training of `config` on images of `data`. Throws `SopError` 69 when a limit of `target` is exceeded. */
export function traceTraining(config: Config, data: DataShape, target: Target): Training {
  const graph = new Graph();
  const shape = stepShape(config, data.channels, target);
  const resident = data.residentBytes === null ? null : pixelInput(graph, data.residentBytes);
  const views: ViewInputs[] = [];
  const tensors: ViewTensors[] = [];
  for (let micro = 0; micro < config.optim.accumulate; micro++) {
    const pixels = resident ?? pixelInput(graph, shape.batch * uploadBytes(config, data.channels));
    const { global, local } = drawInputs(graph, shape.batch, config.views.local_count);
    views.push({ pixels, global, local });
    tensors.push(
      graph.scope('augment', () => {
        const view = (draws: ViewDraws, size: number): Tensor =>
          graph.one(augment, [pixels, draws.table, draws.draws], {
            channels: data.channels,
            size,
            mean: data.mean,
            std: data.std,
          });
        const whole = view(global, config.model.image_size);
        return local ? [whole, view(local, config.model.local_size)] : [whole];
      }),
    );
  }
  const [first, ...rest] = tensors;
  if (!first)
    throw new SopError(ExitCode.internal, {
      what: 'no micro-batch',
      where: 'optim.accumulate',
      why: 'it is 0',
      fix: 'set it to 1',
    });
  const step = traceTrainStep(graph, shape, [first, ...rest]);
  return { config, data, shape, graph, step, views, plan: plan(graph, target, fetchedTensors(step)) };
}

function pixelInput(graph: Graph, bytes: number): Tensor {
  return graph.input('pixels', [Math.ceil(bytes / 4)], 'u32');
}

function drawInputs(graph: Graph, batch: number, locals: number): Pick<ViewInputs, 'global' | 'local'> {
  const inputs = (name: string, views: number): ViewDraws => ({
    table: graph.input(`${name}_table`, [views, TABLE_WIDTH], 'u32'),
    draws: graph.input(`${name}_draws`, [views, DRAWS_WIDTH]),
  });
  return { global: inputs('global', 2 * batch), local: locals > 0 ? inputs('local', locals * batch) : null };
}
