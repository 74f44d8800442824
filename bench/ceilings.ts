import { grid } from '../shaders/lib/grid.js';
import { kernel, read, wgsl, write } from '../shaders/lib/kernel.js';
import type { Gpu } from '../src/gpu/device.js';
import { Graph } from '../src/graph/graph.js';
import { costOf, defineOp, input, type NoAttributes, output } from '../src/graph/op.js';
import { elements, f32, like } from '../src/graph/tensor.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { timeNodes } from '../src/plan/timing.js';

/** What the device can do at best, measured in the run whose kernels are held against it. */
export interface Ceiling {
  /** Multiply-adds of the best loop, each two operations. */
  readonly gflops: number;
  /** Bytes read and written together, by the best copy of tensors too large for a cache. */
  readonly gbps: number;
  /** Microseconds from one dispatch to the next within a submit. */
  readonly dispatch_us: number;
  /** The loop that was best. */
  readonly loop: string;
  /** Bandwidth of copies by their size, which caches raise: a kernel is held against the copy nearest to what it moves. */
  readonly copies: readonly { readonly bytes: number; readonly gbps: number }[];
}

/**
 * A loop of multiply-adds: `sums` independent accumulators of `lanes` numbers, each updated `depth` times between stores to
 * it. Which shape is best depends on registers, on instructions in flight and on how a compiler treats variables; a plain
 * loop of one accumulator reads a third of the truth.
 */
type Loop = { readonly sums: number; readonly lanes: 1 | 4; readonly depth: number; readonly fused: boolean };

const LOOPS: readonly Loop[] = [
  { sums: 8, lanes: 1, depth: 4, fused: false },
  { sums: 16, lanes: 1, depth: 1, fused: false },
  { sums: 16, lanes: 1, depth: 8, fused: false },
  { sums: 32, lanes: 1, depth: 4, fused: false },
  { sums: 16, lanes: 1, depth: 8, fused: true },
  { sums: 4, lanes: 4, depth: 8, fused: false },
  { sums: 8, lanes: 4, depth: 4, fused: false },
  { sums: 8, lanes: 4, depth: 4, fused: true },
];

const showLoop = ({ sums, lanes, depth, fused }: Loop): string =>
  `${sums} x ${lanes === 4 ? 'vec4' : 'f32'}, ${depth} deep${fused ? ', fma' : ''}`;

/** Iterations of a loop, and its invocations: some for every core, or tens of thousands for a GPU. */
const STEPS = 256;
const INVOCATIONS = { lavapipe: 4096, swiftshader: 4096, gpu: 2 ** 18 } as const;

/** Input [2]: factor and addend, unknown to the compiler. Output: one number an invocation. */
const multiplyAdd = defineOp<Loop & { readonly invocations: number }>({
  name: 'ceiling_multiply_add',
  infer: (_, { invocations }) => [f32(invocations)],
  launches({ attrs: { sums, lanes, depth, fused, invocations } }) {
    const type = lanes === 4 ? 'vec4<f32>' : 'f32';
    const each = (line: (i: number) => string): string => Array.from({ length: sums }, (_, i) => line(i)).join('\n');
    const update = (i: number): string =>
      Array.from({ length: depth }).reduce<string>(
        (inner) => (fused ? `fma(${inner}, factor, addend)` : `(${inner} * factor + addend)`),
        `a${i}`,
      );
    const multiply = kernel({
      label: 'ceiling.multiply_add',
      bindings: { x: read('f32'), y: write('f32') },
      params: { steps: 'u32' },
      code: wgsl`
@compute @workgroup_size(64)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
  let factor = ${type}(x[0]);
  let addend = ${type}(x[1]);
${each((i) => `  var a${i} = ${type}(f32(id.x + ${i}u));`)}
  for (var step = 0u; step < params.steps; step++) {
${each((i) => `    a${i} = ${update(i)};`)}
  }
  let sum = ${Array.from({ length: sums }, (_, i) => `a${i}`).join(' + ')};
  y[id.x] = ${lanes === 4 ? 'dot(sum, vec4<f32>(1.0))' : 'sum'};
}
`,
    });
    const bindings = { x: input(0), y: output(0) };
    return [{ kernel: multiply, bindings, params: { steps: STEPS }, workgroups: [invocations / 64, 1, 1] }];
  },
  cost: (_, __, { sums, lanes, depth, invocations }) => ({
    flops: 2 * sums * lanes * depth * STEPS * invocations,
    bytes: 0,
  }),
});

/** Copies x [4 n], a vec4 an invocation. */
const copy = defineOp<NoAttributes>({
  name: 'ceiling_copy',
  infer: ([x]) => [like(x)],
  launches({ inputs: [x] }) {
    const count = elements(x) / 4;
    const copying = kernel({
      label: 'ceiling.copy',
      bindings: { x: read('vec4<f32>'), y: write('vec4<f32>') },
      params: { count: 'u32' },
      code: wgsl`
@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.count) { y[i] = x[i]; }
}
`,
    });
    const bindings = { x: input(0), y: output(0) };
    return [{ kernel: copying, bindings, params: { count }, workgroups: grid(count, 64) }];
  },
  cost: ([x]) => ({ flops: 0, bytes: 8 * elements(x) }),
});

/** Runs of a measurement, the best of which counts: a ceiling is what nothing disturbed. */
const RUNS = 6;
/** A run lasts about this long, ms: long beside a submit, short beside what drivers allow. */
const RUN_MS = 40;

/** Best milliseconds of one repetition of all that a graph does. */
async function bestTime(gpu: Gpu, graph: Graph, also?: (replay: Replay) => Promise<number>): Promise<number> {
  const results = graph.nodes.flatMap(({ outputs }) => outputs);
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, results)));
  try {
    for (const tensor of graph.tensors) if (tensor.storage === 'input') replay.write(tensor, inputFor(tensor.shape));
    await replay.warmUp();
    // A run is as long as the best so far asks for. The first says only that: it may have been held up, or be too short to time.
    const first = await timeNodes(replay, () => true, 1);
    let best = Number.POSITIVE_INFINITY;
    for (let run = 0; run < RUNS; run++) {
      const repeats = Math.max(1, Math.min(2000, Math.round(RUN_MS / Math.min(first, best))));
      best = Math.min(best, (await timeNodes(replay, () => true, repeats)) / repeats);
    }
    return also ? Math.min(best, await also(replay)) : best;
  } finally {
    replay.destroy();
  }
}

/** Factor and addend whose sums stay near 1, where nothing is subnormal or infinite. */
const inputFor = (shape: readonly number[]): Float32Array<ArrayBuffer> =>
  new Float32Array(elements({ shape })).map((_, i) => (i === 0 ? 0.999 : 0.001));

/** Copies of these many bytes: within a first cache, a last one, and memory. */
const COPY_BYTES = [2 ** 18, 2 ** 21, 2 ** 26] as const;

/** The queue's own copy, which software adapters do by `memcpy`. Milliseconds. */
async function bufferCopy({ device, orFail, check }: Gpu, { compiled }: Replay, repeats: number): Promise<number> {
  const [from, to] = compiled.buffers;
  if (!from || !to) return Number.POSITIVE_INFINITY;
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < RUNS; run++) {
    const encoder = device.createCommandEncoder({ label: 'ceiling.buffer_copy' });
    for (let i = 0; i < repeats; i++) encoder.copyBufferToBuffer(from, 0, to, 0, from.size);
    const commands = encoder.finish();
    const start = performance.now();
    device.queue.submit([commands]);
    await orFail(device.queue.onSubmittedWorkDone());
    best = Math.min(best, (performance.now() - start) / repeats);
  }
  check();
  return best;
}

/** Measures the ceilings of an adapter: a few seconds on a software one. */
export async function measureCeiling(gpu: Gpu, progress: (done: number, total: number) => void): Promise<Ceiling> {
  const total = LOOPS.length + COPY_BYTES.length + 1;
  let done = 0;
  const step = <T>(value: T): T => {
    done += 1;
    progress(done, total);
    return value;
  };
  const invocations = INVOCATIONS[gpu.target.kind];
  let best = { gflops: 0, loop: '' };
  for (const loop of LOOPS) {
    const graph = new Graph();
    graph.one(multiplyAdd, [graph.input('x', [2])], { ...loop, invocations });
    const flops = graph.nodes.reduce((sum, node) => sum + costOf(node).flops, 0);
    const gflops = flops / step(await bestTime(gpu, graph)) / 1e6;
    if (gflops > best.gflops) best = { gflops, loop: showLoop(loop) };
  }
  const copies: { bytes: number; gbps: number }[] = [];
  for (const bytes of COPY_BYTES) {
    const graph = new Graph();
    graph.one(copy, [graph.input('x', [bytes / 4])], {});
    const repeats = Math.max(1, Math.round(2 ** 27 / bytes));
    const ms = await bestTime(gpu, graph, (replay) => bufferCopy(gpu, replay, repeats));
    copies.push({ bytes: 2 * bytes, gbps: (2 * bytes) / step(ms) / 1e6 });
  }
  const graph = new Graph();
  graph.one(copy, [graph.input('x', [4])], {});
  const dispatch = step(await bestTime(gpu, graph));
  return { ...best, gbps: copies.at(-1)?.gbps ?? 0, dispatch_us: 1000 * dispatch, copies };
}
