import type { Benched, Case, OpTest } from '../kernels-test/declare.js';
import { opTests } from '../kernels-test/index.js';
import type { AnyOpTest } from '../kernels-test/interpreter.js';
import { inHalf, trace } from '../kernels-test/traced.js';
import { configFrom } from '../src/cli/options.js';
import { nearestName } from '../src/config/nearest.js';
import { ExitCode, SopError } from '../src/errors.js';
import type { Target } from '../src/gpu/target.js';
import type { Node } from '../src/graph/graph.js';
import type { Attributes } from '../src/graph/op.js';
import { traceTraining } from '../src/sop/training.js';

/** An op whose declaration says how it is benched. */
export type BenchedTest = OpTest<Attributes> & { readonly bench: Benched<Attributes> };

/** An op at a shape. */
export interface BenchCase {
  readonly test: BenchedTest;
  readonly dims: readonly number[];
  /** Whether the inputs that the op takes in f16 are so. */
  readonly half?: boolean;
}

const isBenched = (test: AnyOpTest): test is BenchedTest => test.bench !== undefined;
const benched: readonly BenchedTest[] = opTests.filter(isBenched);

/** `12608x384x1152:NT`: a shape as `--shape` takes it and as rows show it, with ` f16` behind it where that is. */
export function showShape({ test: { bench }, dims, half }: BenchCase): string {
  return `${dims.join('x')}${bench.form === undefined ? '' : `:${bench.form}`}${half ? ' f16' : ''}`;
}

/** Declared inputs and attributes of a case. */
export function caseOf({ test, dims, half }: BenchCase): Case<Attributes> {
  const declared = test.bench.sized(...dims);
  return half ? inHalf(test, declared) : declared;
}

/** For `--help`: each op and what the numbers of its shape mean. */
export function shapesHelp(): (readonly [op: string, dims: string])[] {
  return [...new Map(benched.map(({ op, bench }) => [op.name, bench.dims.join(' x ')]))];
}

/** The name under which the cost of replaying a step is benched, which is no op. */
export const REPLAY = 'replay';

/**
 * The ops of these names; all of them where none is named. The backward pass of an op has the op's own name, or that of a
 * kernel in it.
 * @throws SopError (64) for a name that no op has, with the nearest that one has
 */
export function opsNamed(names: readonly string[]): BenchedTest[] {
  if (names.length === 0) return [...benched];
  const found = names.flatMap((name) => {
    if (name === REPLAY) return [];
    const own = benched.filter(({ op }) => op.name === name);
    if (own.length > 0) return own;
    const within = benched.filter((test) => opsWithin(test).includes(name));
    if (within.length > 0) return within;
    const nearest = nearestName(name, new Set([REPLAY, ...benched.flatMap((test) => opsWithin(test))]));
    const all = [...new Set([...benched.map(({ op }) => op.name), REPLAY])].join(', ');
    const fix = nearest === undefined ? 'name one of these, or none for all' : `did you mean ${nearest}?`;
    throw new SopError(ExitCode.usage, { what: `unknown op ${name}`, where: '[op...]', why: `there are: ${all}`, fix });
  });
  return [...new Set(found)];
}

/** Names of an op and of what its backward pass is made of. */
function opsWithin(test: BenchedTest): string[] {
  const [first] = test.cases;
  return first ? trace(test, first).graph.nodes.map(({ op }) => op.name) : [test.op.name];
}

/** Beyond this no adapter could hold a tensor of that side. */
const LARGEST = 2 ** 32;

/**
 * What `--shape` asks for.
 * @throws SopError (64) for a text that is no shape, or none of that op's
 */
export function shapedCases(tests: readonly BenchedTest[], text: string): BenchCase[] {
  const bad = (why: string, fix: string): SopError =>
    new SopError(ExitCode.usage, { what: 'bad shape', where: `--shape ${JSON.stringify(text)}`, why, fix });
  const [numbers = '', form, ...rest] = text.trim().split(':');
  const dims = numbers.split(/\s*[x×,]\s*/i).map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : Number.NaN));
  if (rest.length > 0 || !dims.every((side) => side >= 1)) {
    throw bad('it is not a list of whole numbers above 0', 'write it as 12608x384');
  }
  if (tests.length === 0) throw bad(`${REPLAY} has no shapes`, 'leave it out, or name the op that it is for');
  if (dims.some((side) => side > LARGEST)) throw bad('no adapter is that large', 'ask for a smaller one');
  const forms = tests.filter(({ bench }) => form === undefined || bench.form === form.toUpperCase());
  if (forms.length === 0) throw bad(`there is no form ${form} of ${tests[0]?.op.name}`, 'leave it out');
  for (const { op, bench } of forms) {
    const least = bench.dims.filter((name) => !name.endsWith('?')).length;
    if (dims.length >= least && dims.length <= bench.dims.length) continue;
    const why = `${op.name} has the shape ${bench.dims.join(' x ')}, and this has ${dims.length} numbers`;
    throw bad(why, 'name the op that it is for, and write all that has no question mark');
  }
  return forms.map((test) => ({ test, dims }));
}

/** Presets whose training steps give the shapes, with the batch for which they are asked. */
const MODELS = [
  { preset: 'vit-s', batchSize: '16', channels: 3, residentBytes: null },
  { preset: 'quickstart', batchSize: undefined, channels: 1, residentBytes: 28 * 28 * 60_000 },
] as const;

/** The nodes of one training step of each model. */
async function modelNodes(target: Target): Promise<readonly (readonly Node[])[]> {
  return Promise.all(
    MODELS.map(async ({ preset, batchSize, channels, residentBytes }) => {
      const statistics = { mean: Array<number>(channels).fill(0.5), std: Array<number>(channels).fill(0.25) };
      const config = await configFrom({ preset, batchSize });
      return traceTraining(config, { channels, residentBytes, ...statistics }, target).graph.nodes;
    }),
  );
}

/**
 * The shapes that ops have in a training step of ViT-S at batch 16 and in one of the quickstart, and those that their tests
 * name besides. Of those that differ in the number of rows or sequences alone a model's largest stands for all.
 *
 * @throws SopError (64) for an op that has none
 */
export async function modelCases(tests: readonly BenchedTest[], target: Target): Promise<BenchCase[]> {
  const models = await modelNodes(target);
  return tests.flatMap((test) => {
    const found = new Map<string, BenchCase>();
    for (const nodes of models) {
      const largest = new Map<string, readonly number[]>();
      for (const node of nodes.filter(({ op }) => op.name === test.op.name)) {
        for (const dims of test.bench.shapesOf(node)) {
          const growing = test.bench.growing ?? 0;
          const key = dims.toSpliced(growing, 1).join();
          if ((dims[growing] ?? 0) > (largest.get(key)?.[growing] ?? 0)) largest.set(key, dims);
        }
      }
      for (const dims of largest.values()) found.set(dims.join(), { test, dims });
    }
    for (const dims of test.bench.also ?? []) found.set(dims.join(), { test, dims });
    if (found.size > 0) return [...found.values()];
    throw new SopError(ExitCode.usage, {
      what: `${test.op.name} needs a shape`,
      where: '[op...]',
      why: 'no step that is benched has this op',
      fix: `add --shape with ${test.bench.dims.join(' x ')}`,
    });
  });
}
