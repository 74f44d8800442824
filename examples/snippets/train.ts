import { createEngine, pictureSet } from 'sop-gpu';

/** Trains a small ViT on pictures for some steps, and returns its weights as a safetensors file. */
export async function trainFor(
  steps: number,
  pictures: readonly (File | ImageBitmap | ImageData)[],
  onStep: (step: number, loss: number) => void,
): Promise<Uint8Array> {
  const engine = await createEngine();
  const run = await engine.train({
    data: await pictureSet(pictures),
    settings: {
      model: { arch: 'custom', width: 32, depth: 2, heads: 2, patch_size: 8, image_size: 32, local_size: 16 },
      head: { hidden: 64, layers: 2, out: 16 },
      views: { local_count: 2 },
      sop: { cls: { memory: 64, anchors: 16, neighbours: 4, tasks: 1 }, patch: { memory: 64, anchors: 16 } },
      optim: { lr: 1e-2, warmup: 0.1 },
      train: { batch_size: 8, steps },
    },
  });
  await run.run({ onStep: ({ step, loss }) => onStep(step, loss) });
  const weights = await run.exportWeights();
  await run.destroy();
  await engine.close();
  return weights;
}
