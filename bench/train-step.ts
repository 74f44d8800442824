import { parseArgs } from 'node:util';
import { configFrom } from '../src/cli/options.js';
import { checkCreatable, writeJson } from '../src/cli/output-file.js';
import type { Config } from '../src/config/schema.js';
import { residentSet } from '../src/data/dataset.js';
import { ExitCode, reasonOf, SopError } from '../src/errors.js';
import { openNodeGpu } from '../src/node.js';
import { Draws } from '../src/rng.js';
import { Feed } from '../src/sop/feed.js';
import { Trainer } from '../src/sop/trainer.js';
import { traceTraining } from '../src/sop/training.js';
import { measuredNow } from './measured.js';

const FLAGS = {
  preset: { type: 'string', default: 'quickstart' },
  set: { type: 'string', multiple: true, default: [] as string[] },
  steps: { type: 'string', default: '40' },
  channels: { type: 'string', default: '1' },
  adapter: { type: 'string' },
  json: { type: 'string' },
} as const;

const refused = (where: string, why: string): SopError =>
  new SopError(ExitCode.usage, { what: 'bad command line', where, why, fix: 'see the head of bench/step.js' });

function flagsOf(argv: string[]) {
  try {
    const { values } = parseArgs({ args: argv, options: FLAGS });
    if (!/^[1-9]\d{0,5}$/.test(values.steps)) throw refused('--steps', `expected a whole number, got ${values.steps}`);
    if (!/^[13]$/.test(values.channels)) throw refused('--channels', `expected 1 or 3, got ${values.channels}`);
    return { ...values, steps: Number(values.steps), channels: values.channels === '3' ? 3 : 1 } as const;
  } catch (error) {
    throw error instanceof SopError ? error : refused('bench:step', reasonOf(error).split('. ')[0] ?? '');
  }
}

/** Steps before the clock starts: software adapters compile at the first dispatch. */
const WARM_UP = 3;

/**
 * Times whole training steps of a preset on images of noise, input pipeline included.
 * @throws SopError 64, 69, 73 as `sop-gpu train` does
 */
export async function benchStep(argv: string[]): Promise<void> {
  const { preset, set: settings, steps, channels, adapter, json } = flagsOf(argv);
  if (json !== undefined) await checkCreatable(json);
  const config = await configFrom({ preset, set: settings });
  const gpu = await openNodeGpu({ adapter, modelWidth: config.model.width });
  const set = noise(config, channels);
  const training = traceTraining(
    config,
    {
      channels,
      mean: Array(channels).fill(0.5),
      std: Array(channels).fill(0.25),
      residentBytes: set.resident?.pixels.byteLength ?? null,
    },
    gpu.target,
  );
  const started = performance.now();
  const trainer = await Trainer.create(gpu, training);
  const compileSeconds = (performance.now() - started) / 1000;
  for (const write of Feed.residentPixels(training, set)) trainer.write(write);
  const feed = new Feed(training, set, 0);
  const times: number[] = [];
  let last = performance.now();
  let running: Promise<unknown> = Promise.resolve();
  for (let step = 0; step < WARM_UP + steps; step++) {
    const batch = await feed.next();
    await trainer.ready();
    const result = trainer.step(batch.writes, {
      step: step + 1,
      lr: 1e-4,
      weightDecay: 0.04,
      momentum: 0.996,
      teacherTemp: 0.04,
    });
    await running;
    running = result;
    const now = performance.now();
    if (step >= WARM_UP) times.push(now - last);
    last = now;
  }
  await running;
  feed.close();

  const sorted = times.sort((a, b) => a - b);
  const quantile = (share: number): number => sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
  const flops = training.plan.costs.reduce((sum, cost) => sum + cost.flops, 0);
  const images = config.train.batch_size * config.optim.accumulate;
  const report = {
    adapter: gpu.target.name,
    ...measuredNow(),
    preset,
    images,
    dispatches: training.plan.launches.length,
    gflop: flops / 1e9,
    compile_s: compileSeconds,
    ms: quantile(0.5),
    ms_10: quantile(0.1),
    ms_90: quantile(0.9),
    images_per_s: (1000 * images) / quantile(0.5),
    gflops: flops / quantile(0.5) / 1e6,
  };
  for (const [name, value] of Object.entries(report)) {
    console.log(name.padEnd(14), typeof value === 'number' ? Number(value.toPrecision(4)) : value);
  }
  if (json !== undefined) await writeJson(json, report);
  trainer.destroy();
  await gpu.close();
}

/** Enough images for a few batches, of uniform noise. */
function noise({ model, train, optim }: Config, depth: 1 | 3) {
  const side = model.image_size;
  const count = 4 * train.batch_size * optim.accumulate;
  const draws = new Draws({ seed: 0, purpose: 'synthetic' });
  const pixels = Uint8Array.from({ length: count * side * side * depth }, () => draws.below(256));
  return residentSet({ name: 'noise', channels: depth, width: side, height: side, pixels });
}
