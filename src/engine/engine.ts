import type { ImageSet } from '../data/dataset.js';
import { ExitCode, SopError } from '../errors.js';
import type { LoadedWeights, WeightOverrides } from '../eval/weights.js';
import { type Gpu, type OpenOptions, openGpu } from '../gpu/device.js';
import { defaultTarget, type Target } from '../gpu/target.js';
import type { Attributes, Op } from '../graph/op.js';
import { describePlan, type PlanReport } from '../plan/report.js';
import { traceTraining } from '../sop/training.js';
import { ImageEncoder, loadWeights } from './image-encoder.js';
import { EngineKernel, type KernelAttributes, type KernelTensor } from './kernel.js';
import { dataShape, withStatistics } from './run.js';
import { configOf, type Settings } from './settings.js';
import { type TrainingOptions, TrainingRun } from './training-run.js';

/** Where the engine computes: without `device` and `gpu` on the best adapter of this browser. */
export interface EngineOptions extends OpenOptions {
  /** An open device: it is used with its own limits and features, and stays open when the engine closes. */
  readonly device?: GPUDevice;
  /** An adapter, or a GPU object other than `navigator.gpu` (Node: see `sop-gpu/node`). */
  readonly gpu?: GPU | GPUAdapter;
}

/**
 * Opens the engine: on a device of the caller's, an adapter of the caller's, or the best adapter of this browser. Works in
 * pages and in dedicated workers.
 *
 * @throws SopError 69 in words for a person: no secure origin, no WebGPU, no adapter
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  return new Engine(await openGpu(options.device ?? options.gpu ?? browserGpu(), options));
}

/** `navigator.gpu`, or why there is none. */
function browserGpu(): GPU {
  const { navigator, isSecureContext } = globalThis as { navigator?: { gpu?: GPU }; isSecureContext?: boolean };
  if (navigator?.gpu) return navigator.gpu;
  const insecure = isSecureContext === false;
  throw new SopError(ExitCode.unavailable, {
    what: 'no WebGPU',
    where: insecure ? 'insecure origin' : 'navigator.gpu',
    why: insecure
      ? 'browsers offer WebGPU on https and localhost alone'
      : 'this browser does not offer it, or it is switched off',
    fix: insecure
      ? 'open the page over https, or from localhost'
      : 'use a current Chrome, Edge, Safari or Firefox; in Node openNodeGpu of sop-gpu/node',
  });
}

/** Everything that runs on one device. */
export class Engine {
  /** @param gpu as `openGpu` or, in Node, `openNodeGpu` opens it */
  constructor(readonly gpu: Gpu) {}

  /** The adapter's name, kind and limits. */
  get target(): Target {
    return this.gpu.target;
  }

  /** Resolves with the first GPU error or the loss of the device, if there is one: everything made before is then void. */
  get failed(): Promise<SopError> {
    return this.gpu.failed.catch((error: SopError) => error);
  }

  /**
   * A frozen encoder from the bytes of a safetensors file (timm's or Hugging Face's names) or from loaded weights.
   * @throws SopError 65 for a file that is damaged or no ViT; 64 for overrides that do not fit it, and no bytes; 69 too large
   */
  async encoder(weights: Uint8Array | LoadedWeights, overrides: WeightOverrides = {}): Promise<ImageEncoder> {
    const loaded = typeof weights === 'object' && 'vit' in weights ? weights : loadWeights(weights, overrides);
    return ImageEncoder.create(this.gpu, loaded);
  }

  /** A training run. @throws what `TrainingRun.create` throws */
  train(options: TrainingOptions): Promise<TrainingRun> {
    return TrainingRun.create(this.gpu, options);
  }

  /**
   * One op of the engine (`ops`), compiled for these shapes and bound to buffers of the caller's. Outputs without a buffer
   * are made, and read with `read`.
   * @throws what `EngineKernel.create` throws
   */
  kernel<A extends Attributes>(
    op: Op<A>,
    inputs: readonly KernelTensor[],
    attributes: KernelAttributes<A>,
    outputs: readonly (GPUBuffer | null)[] = [],
  ): Promise<EngineKernel> {
    return EngineKernel.create(this.gpu, op, inputs, attributes, outputs);
  }

  /**
   * Memory, work and parameters of a training step under these settings, on this device. Touches no memory of it.
   * @throws SopError 78 for settings that are wrong; 69 for a tensor that exceeds a limit of the device
   */
  plan(data: ImageSet, settings: Settings): Promise<PlanReport> {
    return planTraining(data, settings, this.target);
  }

  /**
   * Waits for the work in flight and frees the device, unless it was the caller's. A run that goes on ends with an error, as
   * does what is called later (64): destroy runs before.
   */
  close(): Promise<void> {
    return this.gpu.close();
  }
}

/** As `Engine.plan` for any adapter, without a device: by WebGPU's default limits where `target` is left out. */
export async function planTraining(
  data: ImageSet,
  settings: Settings,
  target: Target = defaultTarget,
): Promise<PlanReport> {
  const config = await withStatistics(configOf(settings), data);
  return describePlan(traceTraining(config, dataShape(config, data, { target }), target).plan);
}
