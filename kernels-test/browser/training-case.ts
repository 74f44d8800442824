import { createEngine, type EngineOptions, residentSet } from '../../src/index.js';
import { Random } from '../declare.js';

/** The same few training steps in Node and in a browser: both losses of each. */

const SIZE = 16;
const IMAGES = 24;

/** Colour noise with a bright block somewhere: enough for losses that move. */
function images() {
  const random = new Random(5);
  const pixels = Uint8Array.from({ length: IMAGES * SIZE * SIZE * 3 }, () => random.below(120));
  for (let image = 0; image < IMAGES; image++) {
    const [left, top] = [random.below(SIZE - 6), random.below(SIZE - 6)];
    for (let y = top; y < top + 6; y++)
      pixels.fill(
        200 + random.below(55),
        3 * (image * SIZE * SIZE + y * SIZE + left),
        3 * (image * SIZE * SIZE + y * SIZE + left + 6),
      );
  }
  return residentSet({ name: 'blocks', channels: 3, width: SIZE, height: SIZE, pixels });
}

const settings = {
  model: { arch: 'custom', width: 32, depth: 2, heads: 2, patch_size: 4, image_size: 16, local_size: 8 },
  head: { hidden: 32, layers: 2, out: 16 },
  views: { local_count: 2 },
  sop: { cls: { memory: 64, anchors: 16, neighbours: 4, tasks: 1 }, patch: { memory: 64, anchors: 16 } },
  optim: { lr: 1e-2, warmup: 0.1 },
  train: { batch_size: 8, steps: 4, seed: 11 },
};

export async function trainingLosses(options: EngineOptions): Promise<number[][]> {
  const engine = await createEngine(options);
  const run = await engine.train({ data: images(), settings });
  const losses: number[][] = [];
  await run.run({ onStep: ({ loss, lossCls, lossPatch }) => losses.push([loss, lossCls, lossPatch]) });
  await run.destroy();
  await engine.close();
  return losses;
}
