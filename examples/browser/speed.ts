import { type Engine, type ImageSet, matmul, planTraining, SopError } from '../../src/index.js';
import type { PagePreset } from './presets.js';
import type { PresetEstimate } from './protocol.js';

/** How fast this adapter is, measured in some milliseconds. */
export interface AdapterSpeed {
  readonly flopsPerSecond: number;
  readonly secondsPerDispatch: number;
}

const SIDE = 256;

/** Times a square matrix product and a tiny one. */
export async function measureSpeed(engine: Engine): Promise<AdapterSpeed> {
  const time = async (side: number, runs: number): Promise<number> => {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffers = [0, 1].map(() => engine.gpu.device.createBuffer({ label: 'speed', size: 4 * side * side, usage }));
    const tensors = buffers.map((buffer) => ({ shape: [side, side], buffer }));
    const kernel = await engine.kernel(matmul, tensors, { transA: false, transB: true });
    let best = Number.POSITIVE_INFINITY;
    // The first one compiles, whenever the driver does that; of the others the best was least disturbed.
    for (let i = 0; i <= runs; i++) {
      const start = performance.now();
      await Promise.all([kernel.run(), engine.gpu.device.queue.onSubmittedWorkDone()]);
      if (i > 0) best = Math.min(best, (performance.now() - start) / 1000);
    }
    kernel.destroy();
    for (const buffer of buffers) buffer.destroy();
    return best;
  };
  const secondsPerSubmit = await time(4, 20);
  const seconds = Math.max(1e-6, (await time(SIDE, 5)) - secondsPerSubmit);
  // Dispatches of one submit follow each other some four times faster than submits that are waited for (measured on
  // software adapters: 13 to 34 us against 50 to 107).
  return { flopsPerSecond: (2 * SIDE ** 3) / seconds, secondsPerDispatch: secondsPerSubmit / 4 };
}

/** Sizes, memory and likely speed of a preset on this adapter; plans it, runs nothing. */
export async function estimate(
  { id, name, note, settings }: PagePreset,
  data: ImageSet,
  engine: Engine,
  { flopsPerSecond, secondsPerDispatch }: AdapterSpeed,
): Promise<PresetEstimate> {
  const steps = Number(settings['train.steps']);
  const batch = Number(settings['train.batch_size']);
  const known = { id, name, note, pixels: Number(settings['model.image_size']), steps, batch };
  try {
    const { parameters, memory, work, dispatches } = await planTraining(data, settings, engine.target);
    const seconds = work.flops / flopsPerSecond + dispatches * secondsPerDispatch;
    const unfit = data.count < batch ? `needs at least ${batch} pictures, there are ${data.count}` : null;
    const count = parameters.backbone + parameters.head;
    return { ...known, parameters: count, memory: memory.total, imagesPerSecond: batch / seconds, unfit };
  } catch (error) {
    if (!(error instanceof SopError)) throw error;
    return { ...known, parameters: 0, memory: 0, imagesPerSecond: 0, unfit: error.complaint.why };
  }
}
