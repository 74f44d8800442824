import type { Gpu } from '../gpu/device.js';
import { Graph, type Node } from '../graph/graph.js';
import { packHalves } from '../graph/half.js';
import type { Attribute, Attributes } from '../graph/op.js';
import { bytes, elements, type Tensor } from '../graph/tensor.js';
import { compile } from './compile.js';
import { type Plan, plan } from './plan.js';
import { type Elements, Replay } from './replay.js';
import { timeNodes } from './timing.js';
import { callKey } from './variants.js';

/** The fastest variant of a call on an adapter, beside the built-in one. */
export interface TunedCall {
  readonly variant: string;
  readonly ms: number;
  readonly built_in: string;
  readonly built_in_ms: number;
}

/** Samples of a variant, of which the least counts: what nothing disturbed. */
const SAMPLES = 4;
/** A sample lasts about this long, ms. */
const SAMPLE_MS = 30;
const MOST_REPEATS = 1000;
/** A variant that takes this many times what the best one does is sampled once. */
const HOPELESS = 3;

/**
 * Times the variants of every different call of a plan on an adapter, each alone, on numbers made for it.
 * @param tuned takes each call as soon as it is timed; those that are in it already are not timed again
 * @param progress calls done, and all
 */
export async function tunePlan(
  gpu: Gpu,
  { graph, target }: Plan,
  tuned: Map<string, TunedCall>,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const calls = new Map<string, { readonly node: Node; readonly variants: readonly string[] }>();
  for (const node of graph.nodes) {
    const { op, inputs, outputs, attrs } = node;
    const call = { inputs, outputs, attrs, target };
    const variants = op.variants?.(call) ?? [];
    const key = callKey(op, call);
    if (variants.length > 1 && !tuned.has(key)) calls.set(key, { node, variants });
  }
  let done = 0;
  for (const [key, { node, variants }] of calls) {
    progress(done++, calls.size);
    tuned.set(key, await tuneCall(gpu, key, node, variants));
  }
  progress(done, calls.size);
}

async function tuneCall(gpu: Gpu, key: string, node: Node, variants: readonly string[]): Promise<TunedCall> {
  const times = new Map<string, number>();
  for (const variant of variants) {
    times.set(variant, await timeVariant(gpu, node, new Map([[key, variant]]), Math.min(...times.values())));
  }
  const [[built_in, built_in_ms] = ['', Number.NaN], ...others] = times;
  // The built-in choice stays unless another is better by more than a measurement errs.
  const best = others.reduce((a, b) => (b[1] < a[1] ? b : a), [built_in, 0.97 * built_in_ms] as const);
  const [variant] = best;
  return { variant, ms: times.get(variant) ?? Number.NaN, built_in, built_in_ms };
}

/** Least milliseconds of a node by itself. @param best of the other variants, so far */
async function timeVariant(gpu: Gpu, node: Node, tuned: ReadonlyMap<string, string>, best: number): Promise<number> {
  const graph = new Graph();
  const inputs = node.inputs.map(({ shape, dtype }, i) =>
    node.op.updates?.includes(i) ? graph.state(`input.${i}`, shape, dtype) : graph.input(`input.${i}`, shape, dtype),
  );
  const outputs = graph.add(node.op, inputs, ownScalars(graph, node.attrs));
  const typical = node.op.typical?.({ ...node, target: gpu.target });
  const replay = new Replay(await compile(gpu, plan(graph, { ...gpu.target, tuned }, outputs)));
  try {
    await replay.warmUp();
    inputs.forEach((tensor, i) => {
      replay.write(tensor, typical?.get(i) ?? someElements(tensor, i, inputs[0]?.shape[0] ?? 1));
    });
    for (const scalar of graph.scalars) replay.setScalar(scalar, scalar.dtype === 'f32' ? 0.1 : 1);
    return await leastMs((repeats) => timeNodes(replay, () => true, repeats), best);
  } finally {
    replay.destroy();
  }
}

/**
 * Least milliseconds of one of `repeats` runs that `time` says the milliseconds of. Of a short sample most may be the wait for
 * the device, and a device that slept is slow at first: repeats grow until a sample lasts.
 * @param best of what else there is
 */
export async function leastMs(time: (repeats: number) => Promise<number>, best: number): Promise<number> {
  let repeats = 1;
  let least = await time(1);
  while (repeats < MOST_REPEATS && repeats * least < SAMPLE_MS / 2) {
    repeats = Math.min(MOST_REPEATS, Math.ceil(SAMPLE_MS / least));
    least = (await time(repeats)) / repeats;
  }
  for (let i = 1; i < SAMPLES && least <= HOPELESS * best; i++)
    least = Math.min(least, (await time(repeats)) / repeats);
  return least;
}

/** Attributes with scalars of another graph, of the same names. */
function ownScalars(graph: Graph, attrs: Attributes): Attributes {
  const own = (value: Attribute): Attribute => {
    if (typeof value !== 'object' || Array.isArray(value)) return value;
    if ('slot' in value && 'name' in value)
      return graph.scalar(String(value.name), value.dtype === 'u32' ? 'u32' : 'f32');
    return value;
  };
  return Object.fromEntries(Object.entries(attrs).map(([name, value]) => [name, own(value)]));
}

/** Numbers between -1 and 1 that repeat late; in integer tensors different rows of what has `rows` of them. */
function someElements(tensor: Tensor, seed: number, rows: number): Elements {
  const { dtype } = tensor;
  const count = elements(tensor);
  const reals = (): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898 + seed));
  if (dtype === 'f16') return packHalves(reals(), bytes(tensor));
  if (dtype === 'f32') return reals();
  const numbers = Array.from({ length: count }, (_, i) => i % rows);
  return dtype === 'u32' ? Uint32Array.from(numbers) : Int32Array.from(numbers);
}
