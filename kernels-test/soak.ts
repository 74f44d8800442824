import { readFileSync } from 'node:fs';
import { runFolder } from '../src/cli/run-folder.js';
import type { Evaluation, Evaluator } from '../src/eval/evaluator.js';
import type { Gpu } from '../src/gpu/device.js';
import { Graph } from '../src/graph/graph.js';
import { median } from '../src/numbers.js';
import { matmul } from '../src/ops/matmul.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { greySet, type Line, tinySetup, train } from './tiny-run.js';

/**
 * A long run of the smallest training, watched: does memory grow, on the host or on the device, does a step become slower,
 * is a line of the metrics missing?
 */

/** What was measured. */
export interface SoakReport {
  readonly adapter: string;
  readonly steps: number;
  readonly seconds: number;
  /** Slope of the resident memory after the first tenth, bytes a step; least squares. */
  readonly bytesPerStep: number;
  /** Bytes of all buffers of the device: at the first and at the last measurement, and how many different values between. */
  readonly deviceBytes: { readonly first: number; readonly last: number; readonly values: number };
  /** Time of a step in units of a fixed kernel timed beside it: median of the last tenth over that of the first. */
  readonly slowdown: number;
  /** Steps without a line in the metrics, or with more than one. */
  readonly badLines: number;
}

/** Steps between two measurements. */
const EVERY = 100;
const BATCH = 8;

/** @param folder for the run and its images */
export async function soak(gpu: Gpu, folder: string, steps: number): Promise<SoakReport> {
  const data = greySet(`${folder}/images`, EVERY * BATCH);
  const out = `${folder}/run`;
  const live = watchBuffers(gpu);
  const calibration = await Calibration.create(gpu);
  const samples: { step: number; resident: number; device: number; kernel: number }[] = [];
  // Called at the end of each epoch, when nothing is in flight.
  const evaluate = async (): Promise<Evaluation> => {
    const kernel = await calibration.time();
    globalThis.gc?.();
    const resident = process.memoryUsage().rss;
    samples.push({ step: EVERY * (samples.length + 1), resident, device: live(), kernel });
    return { comparison: null, spread: { featureStd: 1, effectiveRank: 16 } };
  };
  const setup = await tinySetup(gpu, out, {
    data,
    length: { steps: String(steps) },
    set: ['log.every=0'],
    checkpointSeconds: 10,
    evaluator: { evaluate } as unknown as Evaluator,
  });
  const { seconds } = await train(setup);
  calibration.destroy();
  const lines = readFileSync(runFolder(out).metrics, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line)
    .filter((line) => !('knn' in line));
  const seen = new Map<number, number>();
  for (const { step } of lines) seen.set(step, (seen.get(step) ?? 0) + 1);
  const badLines = Array.from({ length: steps }, (_, i) => i + 1).filter((step) => seen.get(step) !== 1).length;
  const ratios = samples.map(({ step, kernel }) => {
    const times = lines.slice(step - EVERY, step).map((line) => BATCH / Number(line['images_per_s']));
    return median(times) / kernel;
  });
  const tenth = Math.max(1, Math.floor(samples.length / 10));
  const settled = samples.slice(tenth);
  const device = settled.map((sample) => sample.device);
  return {
    adapter: gpu.target.name,
    steps,
    seconds,
    bytesPerStep: slope(settled.map(({ step, resident }) => [step, resident])),
    deviceBytes: { first: device[0]!, last: device.at(-1)!, values: new Set(device).size },
    slowdown: median(ratios.slice(-tenth)) / median(ratios.slice(0, tenth)),
    badLines,
  };
}

/** What is wrong with a report; nothing where the promises of a long run are kept. */
export function soakFaults({ bytesPerStep, deviceBytes, slowdown, badLines }: SoakReport): string[] {
  const faults: string[] = [];
  if (!(bytesPerStep < 1000)) faults.push(`resident memory grows by ${bytesPerStep.toFixed(0)} bytes a step`);
  if (deviceBytes.values !== 1)
    faults.push(`device memory goes from ${deviceBytes.first} to ${deviceBytes.last} bytes`);
  if (!(slowdown < 1.1)) faults.push(`a step of the last tenth takes ${slowdown.toFixed(2)} times one of the first`);
  if (badLines > 0) faults.push(`${badLines} steps have no line in the metrics, or several`);
  return faults;
}

/** Counts the bytes of the device's buffers from now on. */
function watchBuffers({ device }: Gpu): () => number {
  let bytes = 0;
  const create = device.createBuffer.bind(device);
  device.createBuffer = (description) => {
    const buffer = create(description);
    const { size } = description;
    bytes += size;
    const destroy = buffer.destroy.bind(buffer);
    let gone = false;
    buffer.destroy = () => {
      if (!gone) bytes -= size;
      gone = true;
      return destroy();
    };
    return buffer;
  };
  return () => bytes;
}

/** A product of fixed size, timed: what the machine gives at this moment, whatever else it does. */
class Calibration {
  private constructor(private readonly replay: Replay) {}

  static async create(gpu: Gpu): Promise<Calibration> {
    const graph = new Graph();
    const product = graph.one(matmul, [graph.input('a', [64, 64]), graph.input('b', [64, 64])], {
      transA: false,
      transB: false,
    });
    return new Calibration(new Replay(await compile(gpu, plan(graph, gpu.target, [product])), [product]));
  }

  /** Seconds, median of some. */
  async time(): Promise<number> {
    const times: number[] = [];
    for (let i = 0; i < 31; i++) {
      const started = performance.now();
      await this.replay.run();
      times.push((performance.now() - started) / 1000);
    }
    return median(times);
  }

  destroy(): void {
    this.replay.destroy();
  }
}

function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x0, y0] = [mean(([x]) => x), mean(([, y]) => y)];
  return mean(([x, y]) => (x - x0) * (y - y0)) / mean(([x]) => (x - x0) ** 2);
}
