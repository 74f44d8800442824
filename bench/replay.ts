import type { Gpu } from '../src/gpu/device.js';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { add } from '../src/ops/add.js';
import { columnSum } from '../src/ops/column_sum.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import type { Ceiling } from './ceilings.js';
import type { BenchRow } from './kernels.js';

/** Dispatches of the step that is replayed: about as many as a training step of ViT-S has. */
const DISPATCHES = 1000;
/** Of so many one has the pipeline of its predecessor, which is then not set again: 189 of 990 in that step. */
const SAME_EVERY = 5;
const SIZE = 64;
const STEPS = 60;

/**
 * What replaying a step costs in JavaScript: the time of `Replay.run` until it returns, in which it encodes and submits
 * 1,000 dispatches. The device's own work goes on meanwhile and is not in it. Each node adds 1 to the one before it or copies
 * it, as the sum of a single row, so that the result says whether all have run.
 */
export async function benchReplay(gpu: Gpu, ceiling: Ceiling): Promise<BenchRow> {
  const graph = new Graph();
  const [x, one] = [graph.input('x', [SIZE]), graph.constant('one', [SIZE], new Float32Array(SIZE).fill(1))];
  let last: Tensor = x;
  for (let i = 0; i < DISPATCHES; i++) {
    const adds = (i - Math.floor(i / SAME_EVERY)) % 2 === 0;
    last = adds ? graph.one(add, [last, one], {}) : graph.one(columnSum, [last], {});
  }
  const added = graph.nodes.filter(({ op }) => op === add).length;
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [last])), [last]);
  const times: number[] = [];
  let error = 0;
  try {
    for (let step = 0; step < STEPS; step++) {
      replay.write(x, new Float32Array(SIZE).fill(step));
      const start = performance.now();
      const running = replay.run();
      times.push(performance.now() - start);
      const [result] = await running;
      error = Math.max(error, Math.abs((result?.[0] ?? Number.NaN) - added - step));
    }
  } finally {
    replay.destroy();
  }
  times.sort((a, b) => a - b);
  const ms = times[STEPS >> 1]!;
  return {
    op: 'replay',
    pass: 'forward',
    shape: `${DISPATCHES}`,
    variant: 'JavaScript of one step',
    ms,
    ms_min: times[0]!,
    ms_max: times.at(-1)!,
    gflops: 0,
    gbps: 0,
    // While encoding takes less than the dispatches themselves, no step waits for it.
    percent: Math.min(100, (100 * DISPATCHES * ceiling.dispatch_us) / 1000 / ms),
    bound: 'dispatch',
    error,
    tolerance: 0,
  };
}
