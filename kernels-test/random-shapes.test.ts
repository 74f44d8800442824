import { test } from 'uvu';
import { type Attributes, costOf, GraphError } from '../src/graph/op.js';
import { elements } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { type Case, type OpTest, Random } from './declare.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import { rounds, seed } from './rounds-support.js';
import { inHalf, trace } from './traced.js';

/**
 * Every op that has sizes, forward and backward, at sizes nobody chose, and in f16 too where it and the adapter take that:
 * 1 to 300, primes as often as not, the same for a seed (SOP_GPU_SEED, 1). `npm run test:long` draws 200 shapes an op.
 */
const gpu = await openNodeGpu({ quiet: true });

/** No tensor of a case has more elements, nor do its nodes more work together: the references are plain loops. */
const MOST_ELEMENTS = 2e5;
const MOST_FLOPS = 2e7;
const LARGEST = 300;

const isPrime = (n: number): boolean =>
  n > 1 && !Array.from({ length: 16 }, (_, i) => i + 2).some((d) => d < n && n % d === 0);

function size(random: Random): number {
  // Small ones as often as large ones: most of what goes wrong goes wrong there.
  const drawn = Math.max(1, Math.round(LARGEST ** random.uniform()));
  if (random.uniform() < 0.5) return drawn;
  for (let n = drawn; n <= LARGEST; n++) if (isPrime(n)) return n;
  return 293;
}

const HEAD_WIDTHS = [1, 2, 3, 5, 7, 8, 12, 16, 31, 32, 61, 64, 67, 96, 127, 128];

/** Sizes that depend on each other, where an op has some; the others are drawn each for itself. */
const related: Readonly<Record<string, (dims: number[], random: Random) => number[]>> = {
  attention: ([count = 1, length = 1, width = 1], random) => [
    1 + (count % 4),
    length,
    // Each has kernels of its own, which take a software adapter seconds to compile: not all of 128.
    HEAD_WIDTHS[width % HEAD_WIDTHS.length]!,
    1 + random.below(3),
  ],
  augment: ([count = 1, side = 1], random) => [1 + (count % 9), 4 + (side % 60), random.below(2) ? 1 : 3],
  neighbours: ([count = 1, rows = 1, width = 1], random) => [
    Math.min(count, rows + 2),
    rows + 2,
    width,
    1 + random.below(Math.min(16, rows + 1)),
  ],
  patchify: ([images = 1, side = 1, patch = 1], random) => {
    const sides = 1 + (side % 12);
    return [1 + (images % 6), sides * (1 + (patch % 16)), 1 + (patch % 16), random.below(2) ? 1 : 3];
  },
  pos_resample: ([from = 1, to = 1, width = 1]) => [1 + (from % 20), 1 + (to % 20), width],
  sample_rows: ([count = 1, from = 1]) => [Math.min(count, from), from],
  select_rows: ([rows = 1, k = 1], random) => {
    const count = 1 + random.below(rows);
    return [rows, Math.min(k, 16), count];
  },
  sop_probabilities: ([rows = 1, sops = 1, members = 1, width = 1]) => [rows, sops + 1, 1 + (members % 17), width],
  support: ([sops = 1, neighbours = 1, width = 1], random) => {
    const memory = sops + 18 + random.below(200);
    return [sops + 1, neighbours % 17, width, memory];
  },
  update_fifo: ([memory = 1, rows = 1, width = 1]) => [memory, Math.min(rows, memory), width],
  weighted_sum: ([terms = 1]) => [1 + (terms % 9)],
};

/** A case of an op at drawn sizes, and the sizes. */
function drawCase(op: OpTest<Attributes>, random: Random): { dims: number[]; testCase: Case<Attributes> } {
  const bench = op.bench;
  if (!bench) throw new Error(`${op.op.name} has no sizes`);
  const required = bench.dims.filter((dim) => !dim.endsWith('?')).length;
  for (;;) {
    const drawn = Array.from({ length: required }, () => size(random));
    const dims = related[op.op.name]?.(drawn, random) ?? drawn;
    try {
      const testCase = bench.sized(...dims);
      const { inputs, outputs, graph } = trace(op, testCase);
      if ([...inputs, ...outputs].some((spec) => elements(spec) > MOST_ELEMENTS)) continue;
      const costs = graph.nodes.map(costOf);
      if (costs.reduce((sum, { flops }) => sum + flops, 0) > MOST_FLOPS) continue;
      return { dims, testCase };
    } catch (error) {
      // Sizes that an op refuses by name are no sizes of it.
      if (!(error instanceof GraphError) && !(error instanceof RangeError)) throw error;
    }
  }
}

for (const op of opTests as readonly OpTest<Attributes>[]) {
  if (!op.bench) continue;
  const name = `${op.op.name} ${op.bench.form ?? ''}`.trim();
  test(`${name} at drawn shapes`, async () => {
    const random = new Random(seed + 1000 * opTests.indexOf(op as never));
    for (const _ of rounds(`shapes of ${name}`, 2, 200)) {
      const { dims, testCase } = drawCase(op, random);
      const half = gpu.target.f16 && op.op.halves ? [inHalf(op, testCase)] : [];
      for (const drawn of [testCase, ...half]) {
        await checkOnDevice(gpu, op, drawn, opTests).catch((error: unknown) => {
          throw new Error(`at [${dims}]: ${error instanceof Error ? error.message : error}`, { cause: error });
        });
      }
    }
  });
}

test.run();
