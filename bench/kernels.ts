import { drawAll, prepare, trace } from '../kernels-test/traced.js';
import type { Gpu } from '../src/gpu/device.js';
import type { Node } from '../src/graph/graph.js';
import { compile } from '../src/plan/compile.js';
import { type Plan, plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { timeNodes } from '../src/plan/timing.js';
import { withVariant } from '../src/plan/variants.js';
import { type BenchCase, caseOf, showShape } from './cases.js';
import type { Ceiling } from './ceilings.js';
import { checkNode, type Deviation, holds } from './check.js';

/** One line of the benchmark. */
export interface BenchRow {
  readonly op: string;
  readonly pass: 'forward' | 'backward';
  readonly shape: string;
  readonly variant: string;
  /** Median, least and most milliseconds of one pass. */
  readonly ms: number;
  readonly ms_min: number;
  readonly ms_max: number;
  /** Operations and bytes by formula, per second. */
  readonly gflops: number;
  readonly gbps: number;
  /** Share of the ceiling that bounds it. */
  readonly percent: number;
  readonly bound: 'compute' | 'memory' | 'dispatch';
  /** Worst element against float64, in units of the tensor's RMS, and how far it may be off. */
  readonly error: number;
  readonly tolerance: number;
}

/** Whether all kernels of a row are right. */
export const isRight = (row: BenchRow): boolean => holds(row);

/**
 * Checks an op at a shape against its reference, then times its forward and its backward pass.
 *
 * @param passMs how long the samples of a pass may take together
 */
export async function benchKernel(
  gpu: Gpu,
  benchCase: BenchCase,
  ceiling: Ceiling,
  passMs = PASS_MS,
): Promise<BenchRow[]> {
  const { test } = benchCase;
  const declared = caseOf(benchCase);
  const traced = trace(test, declared);
  const { graph } = traced;
  const computed = graph.nodes.flatMap(({ outputs }) => outputs);
  // Planned before anything is drawn: a shape that cannot be must fail at once.
  const planned = plan(graph, gpu.target, computed);
  const values = drawAll(traced, declared);
  const replay = new Replay(await compile(gpu, planned));
  try {
    await replay.warmUp();
    prepare(replay, traced, values);
    const passes = [
      { pass: 'forward' as const, nodes: graph.nodes.slice(0, 1) },
      { pass: 'backward' as const, nodes: graph.nodes.slice(1) },
    ].filter(({ nodes }) => nodes.length > 0);
    const rows: BenchRow[] = [];
    for (const { pass, nodes } of passes) {
      const first = await timeNodes(replay, (node) => nodes.includes(node), 1);
      const deviations: Deviation[] = [];
      for (const node of nodes) deviations.push(await checkNode(node, replay, traced, values));
      const times = await sample(first, passMs, (repeats) =>
        timeNodes(replay, (node) => nodes.includes(node), repeats),
      );
      const worst = deviations.reduce((a, b) => (!holds(a) || (holds(b) && a.error >= b.error) ? a : b));
      const named = { op: test.op.name, pass, shape: showShape(benchCase), variant: variantsOf(planned, nodes) };
      rows.push({ ...named, ...times, ...rates(planned, nodes, times.ms, ceiling), ...worst });
    }
    return rows;
  } finally {
    replay.destroy();
  }
}

/** All samples of a pass together, ms, and how many they are: so each lasts long enough for its submit not to count. */
const PASS_MS = 450;
const MOST_SAMPLES = 15;
/** Also of work that lasts longer than all samples should. */
const LEAST_SAMPLES = 3;

/** Median and spread of the time of one repetition. @param first its first run, which says how many there can be */
async function sample(first: number, passMs: number, time: (repeats: number) => Promise<number>) {
  const sampleMs = passMs / MOST_SAMPLES;
  const repeats = Math.max(1, Math.min(1000, Math.round(sampleMs / first)));
  const fitting = Math.floor((2 * passMs) / Math.max(sampleMs, first));
  const samples = Math.max(LEAST_SAMPLES, Math.min(MOST_SAMPLES, fitting));
  const times: number[] = [];
  for (let i = 0; i < samples; i++) times.push((await time(repeats)) / repeats);
  times.sort((a, b) => a - b);
  const middle = times.length >> 1;
  const ms = times.length % 2 ? times[middle]! : (times[middle - 1]! + times[middle]!) / 2;
  return { ms, ms_min: times[0]!, ms_max: times.at(-1)! };
}

/** What a pass reaches, and which ceiling it would meet first. */
function rates({ costs, launches }: Plan, nodes: readonly Node[], ms: number, ceiling: Ceiling) {
  const sum = (of: 'flops' | 'bytes'): number => nodes.reduce((all, { index }) => all + (costs[index]?.[of] ?? 0), 0);
  const [flops, bytes] = [sum('flops'), sum('bytes')];
  const dispatches = launches.filter(({ node }) => nodes.includes(node)).length;
  const distance = (copy: { bytes: number }): number => Math.abs(Math.log(copy.bytes / bytes));
  const copy = ceiling.copies.reduce((a, b) => (distance(b) < distance(a) ? b : a));
  const least = {
    compute: flops / ceiling.gflops / 1e6,
    memory: bytes / copy.gbps / 1e6,
    dispatch: (dispatches * ceiling.dispatch_us) / 1000,
  };
  const bounds = Object.keys(least) as (keyof typeof least)[];
  const bound = bounds.reduce((a, b) => (least[b] > least[a] ? b : a));
  return { gflops: flops / ms / 1e6, gbps: bytes / ms / 1e6, percent: (100 * least[bound]) / ms, bound };
}

/** How the nodes are computed: their variants where their ops have several, else their entry points. */
function variantsOf({ target, launches }: Plan, nodes: readonly Node[]): string {
  const names = nodes.map((node) => {
    const { op, inputs, outputs, attrs } = node;
    const { variant } = withVariant(op, { inputs, outputs, attrs, target });
    const entries = launches.filter((launch) => launch.node === node).map(({ kernel }) => kernel.entry);
    return variant ?? [...new Set(entries)].join('+');
  });
  return [...new Set(names)].join(', ');
}
