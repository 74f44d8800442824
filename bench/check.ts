import { boundFor, compareAs } from '../kernels-test/compare.js';
import { type OpTest, Random, type Values } from '../kernels-test/declare.js';
import { opTests } from '../kernels-test/index.js';
import type { AnyOpTest } from '../kernels-test/interpreter.js';
import type { Traced } from '../kernels-test/traced.js';
import type { Node } from '../src/graph/graph.js';
import { type Attributes, costOf, type Scalar } from '../src/graph/op.js';
import { elements, type Spec, type Tensor } from '../src/graph/tensor.js';
import type { Replay } from '../src/plan/replay.js';

/** How far a kernel is from its float64 reference, in units of the RMS or of the terms of its sums, and how far it may be. */
export interface Deviation {
  readonly error: number;
  readonly tolerance: number;
}

const references: ReadonlyMap<string, AnyOpTest> = new Map(opTests.map((test) => [test.op.name, test]));

/**
 * Holds what a node left on the device against its reference, fed with what the device fed the node: so each kernel is
 * judged by itself, also those of a backward pass. Of large results whose reference can be asked for single rows, some rows
 * are checked, the first and the last among them; the whole would take minutes in JavaScript.
 *
 * @param values the drawn inputs as they were before the node ran, since an `update_*` node changes them
 */
export async function checkNode(
  node: Node,
  replay: Replay,
  traced: Traced,
  values: ReadonlyMap<Tensor, Values>,
): Promise<Deviation> {
  const { op, inputs, outputs, attrs } = node;
  const test = references.get(op.name);
  if (!test) throw new Error(`no float64 reference for ${op.name}`);
  const given = await Promise.all(
    inputs.map(async (tensor) => values.get(tensor)?.slice() ?? Float64Array.from(await replay.read(tensor))),
  );
  const rows = sampledRows(test, node);
  const call = {
    inputs: given,
    specs: inputs,
    outputs,
    attrs,
    scalar: (scalar: Scalar) => traced.scalars.get(scalar) ?? Number.NaN,
    wanted: (row: number) => rows === undefined || rows.has(row),
  };
  const terms = test.terms?.(call);
  const expected = test.reference(call);
  const allowed = (index: number): number => test.tolerance({ specs: inputs, outputs, attrs, index });
  const results = [
    ...outputs.map((tensor, i) => ({ tensor, wanted: expected[i]!, terms: terms?.[i], tolerance: allowed(i) })),
    ...(op.updates ?? []).map((i) => ({
      tensor: inputs[i]!,
      wanted: given[i]!,
      terms: undefined,
      tolerance: allowed(0),
    })),
  ];
  let worst: Deviation = { error: 0, tolerance: allowed(0) };
  for (const { tensor, wanted, terms, tolerance } of results) {
    const got = await replay.read(tensor);
    // Outputs of fewer rows, such as sums over rows, are checked as a whole.
    const looked = rowCount(tensor) === mostRows(outputs) ? rows : undefined;
    const [values, correct] = [onlyRows(got, tensor, looked), onlyRows(wanted, tensor, looked)];
    const { error } = compareAs(tensor, values, correct, terms && onlyRows(terms, tensor, looked));
    const deviation = { error, tolerance: boundFor(tensor, tolerance) };
    // Beyond its tolerance beats within; NaN is beyond any.
    if (!holds(deviation) || (holds(worst) && error > worst.error)) worst = deviation;
  }
  return worst;
}

/** Whether a kernel is right: false for NaN. */
export const holds = ({ error, tolerance }: Deviation): boolean => error <= tolerance;

/** Work up to which all rows are checked: a second of JavaScript. */
const WHOLE_FLOPS = 1e8;

/** Rows of a node's outputs to look at; undefined: all. */
function sampledRows({ sampledRows: count }: OpTest<Attributes>, node: Node): ReadonlySet<number> | undefined {
  const total = mostRows(node.outputs);
  if (count === undefined || total <= count || costOf(node).flops <= WHOLE_FLOPS) return undefined;
  const random = new Random(total);
  return new Set([0, total - 1, ...Array.from({ length: count - 2 }, () => random.below(total))]);
}

const rowCount = ({ shape }: Spec): number => elements({ shape: shape.slice(0, -1) });
const mostRows = (specs: readonly Spec[]): number => Math.max(...specs.map(rowCount));

/** The wanted rows of a tensor, one behind the other. */
function onlyRows(
  values: ArrayLike<number>,
  { shape }: Spec,
  rows: ReadonlySet<number> | undefined,
): ArrayLike<number> {
  if (rows === undefined) return values;
  const width = shape.at(-1) ?? 1;
  return [...rows].flatMap((row) => Array.from({ length: width }, (_, i) => values[row * width + i] ?? Number.NaN));
}
