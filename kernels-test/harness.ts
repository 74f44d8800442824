import type { Gpu } from '../src/gpu/device.js';
import type { Target } from '../src/gpu/target.js';
import type { Kernel } from '../src/graph/kernel.js';
import type { Attributes } from '../src/graph/op.js';
import { elements, type Tensor } from '../src/graph/tensor.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { assertClose } from './compare.js';
import { type Case, Random, type Values } from './declare.js';
import { type AnyOpTest, Interpreter } from './interpreter.js';
import { drawAll, NAN_BITS, prepare, showCase, type Traced, trace } from './traced.js';

function interpret(traced: Traced, values: ReadonlyMap<Tensor, Values>, tests: readonly AnyOpTest[]): Interpreter {
  const interpreter = new Interpreter(traced.graph, tests);
  for (const [tensor, elements] of values) interpreter.set(tensor, elements);
  for (const [scalar, value] of traced.scalars) interpreter.scalars.set(scalar.name, value);
  interpreter.run();
  return interpreter;
}

/**
 * Without a device: the interpreted gradient nodes against central differences of the float64 reference, at up to
 * `coordinates` elements of each input. Truncation is O(h^2) and rounding O(2^-52 / h): with h = 1e-5 both are near 1e-10
 * of the sum's terms, and 1e-6 of the gradient's RMS leaves room for steep functions.
 */
export function checkReferenceGradient(
  test: AnyOpTest,
  testCase: Case<Attributes>,
  tests: readonly AnyOpTest[],
  coordinates = 24,
): void {
  const traced = trace(test, testCase);
  const values = drawAll(traced, testCase);
  const gradients = interpret(traced, values, tests);
  const random = new Random(7);
  const objective = (): number => {
    const at = interpret(traced, values, tests);
    let sum = 0;
    for (const [i, weights] of traced.outputGradients) {
      const tensor = traced.outputs[i];
      if (tensor)
        at.get(tensor).forEach((value, e) => {
          sum += value * (values.get(weights)?.[e] ?? NaN);
        });
    }
    return sum;
  };
  for (const [i, gradient] of traced.inputGradients) {
    const tensor = traced.inputs[i];
    const x = tensor && values.get(tensor);
    if (!x) continue;
    const expected = gradients.get(gradient);
    const rms = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0) / expected.length) || 1;
    for (let n = 0; n < Math.min(coordinates, x.length); n++) {
      const e = x.length <= coordinates ? n : random.below(x.length);
      const before = x[e] ?? 0;
      const h = 1e-5 * Math.max(1, Math.abs(before));
      x[e] = before + h;
      const above = objective();
      x[e] = before - h;
      const below = objective();
      x[e] = before;
      const [derivative, difference] = [expected[e] ?? NaN, (above - below) / (2 * h)];
      const error = Math.abs(difference - derivative) / rms;
      if (!(error <= 1e-6)) {
        const numbers = `${derivative} by the derivative, ${difference} by differences of the reference`;
        throw new Error(`${showCase(test, testCase)}: gradient of input ${i} at ${e}: ${numbers}; ${error} of its RMS`);
      }
    }
  }
}

/** The kernels that a case and its gradient use on `target`. No device. */
export function kernelsOf(test: AnyOpTest, testCase: Case<Attributes>, target: Target): readonly Kernel[] {
  return plan(trace(test, testCase).graph, target).launches.map(({ kernel }) => kernel);
}

/** Names of the variants of a case and its gradient on `target`. No device. */
export function variantsOf(test: AnyOpTest, testCase: Case<Attributes>, target: Target): readonly string[] {
  return trace(test, testCase).graph.nodes.flatMap(
    ({ op, inputs, outputs, attrs }) => op.variants?.({ inputs, outputs, attrs, target }) ?? [],
  );
}

/** `target` as if this variant had been tuned for every call that has it. */
export function preferring(target: Target, variant: string): Target {
  const tuned = new Map<string, string>();
  tuned.get = () => variant;
  return { ...target, tuned };
}

/**
 * On a device: outputs, state and gradients against the interpreter; every buffer poisoned with NaN before, outputs packed
 * with guard words between them; run twice with equal bits. `target` plans for another adapter than the one that runs it.
 */
export async function checkOnDevice(
  gpu: Gpu,
  test: AnyOpTest,
  testCase: Case<Attributes>,
  tests: readonly AnyOpTest[],
  target: Target = gpu.target,
): Promise<void> {
  const traced = trace(test, testCase);
  const values = drawAll(traced, testCase);
  const expected = interpret(traced, values, tests);
  const label = showCase(test, testCase);
  const results = [...traced.outputs, ...traced.inputGradients.values()];
  // Gradients that are also inputs of later gradient nodes may not share their writer's buffer: only pure results are packed.
  const read = new Set(traced.graph.nodes.flatMap((node) => node.inputs));
  const guarded = results.filter(
    (tensor) => tensor.storage === 'computed' && !read.has(tensor) && tensor.dtype === 'f32',
  );
  const [pack] = traced.graph.pack('guarded', [...new Set(guarded)], 2 ** 25);
  const replay = new Replay(await compile(gpu, plan(traced.graph, target, results)));
  try {
    const first = await runPoisoned(replay, traced, values);
    for (const tensor of new Set(results)) {
      const allowed = toleranceOf(tensor, traced, test, tests);
      const terms = expected.terms.get(tensor);
      assertClose(`${label}: ${tensor.label}`, tensor, await replay.read(tensor), expected.get(tensor), allowed, terms);
    }
    for (const index of test.op.updates ?? []) {
      const tensor = traced.inputs[index];
      if (!tensor) continue;
      const allowed = toleranceOf(tensor, traced, test, tests);
      assertClose(
        `${label}: updated ${tensor.label}`,
        tensor,
        await replay.read(tensor),
        expected.get(tensor),
        allowed,
      );
    }
    if (pack) checkGuards(label, pack.members, new Uint32Array((await replay.read(pack.flat)).buffer));
    const second = await runPoisoned(replay, traced, values);
    first.forEach((bits, i) => {
      if (!bits.every((word, e) => word === second[i]?.[e])) throw new Error(`${label}: two runs differ`);
    });
  } finally {
    replay.destroy();
  }
}

/**
 * That of the case's op; of a gradient that of the op which computes it where it is more. What is between two f16 numbers may
 * become either, so a gradient that reads such a result may differ by a step of it.
 */
function toleranceOf(tensor: Tensor, { graph, inputs, outputs }: Traced, test: AnyOpTest, tests: readonly AnyOpTest[]) {
  const index = Math.max(0, outputs.indexOf(tensor));
  const own = test.tolerance({ specs: inputs, outputs, attrs: graph.nodes[0]?.attrs ?? {}, index });
  const node = graph.nodes.find((candidate) => candidate.outputs.includes(tensor));
  const by = node && tests.find(({ op }) => op === node.op);
  if (!node || !by) return own;
  const step = node.inputs.some(({ dtype, storage }) => dtype === 'f16' && storage === 'computed') ? 2 ** -10 : 0;
  const call = { specs: node.inputs, outputs: node.outputs, attrs: node.attrs };
  return step + Math.max(own, by.tolerance({ ...call, index: node.outputs.indexOf(tensor) }));
}

/** One run on poisoned buffers; returns the bits of all results and changed state. */
async function runPoisoned(
  replay: Replay,
  traced: Traced,
  values: ReadonlyMap<Tensor, Values>,
): Promise<Uint32Array[]> {
  prepare(replay, traced, values);
  await replay.run();
  await replay.settled();
  const updated = (traced.graph.nodes[0]?.op.updates ?? []).flatMap((i) => traced.inputs[i] ?? []);
  const bits: Uint32Array[] = [];
  for (const tensor of [...traced.outputs, ...updated, ...traced.inputGradients.values()]) {
    bits.push(new Uint32Array((await replay.read(tensor)).buffer));
  }
  return bits;
}

function checkGuards(label: string, members: readonly Tensor[], words: Uint32Array): void {
  const used = new Uint8Array(words.length);
  for (const tensor of members) {
    const offset = tensor.view?.offset ?? 0;
    used.fill(1, offset, offset + elements(tensor));
  }
  const broken = words.findIndex((word, i) => !used[i] && word !== NAN_BITS);
  if (broken >= 0) throw new Error(`${label}: wrote past a tensor's end, at word ${broken} of the pack`);
}
