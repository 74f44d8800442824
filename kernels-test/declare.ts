import type { Attributes, Op, Scalar } from '../src/graph/op.js';
import type { DType, Spec } from '../src/graph/tensor.js';

/** Values of any tensor in float64; whole numbers for the integer types. */
export type Values = Float64Array;

export interface ReferenceCall<A extends Attributes> {
  readonly inputs: readonly Values[];
  readonly specs: readonly Spec[];
  readonly outputs: readonly Spec[];
  readonly attrs: A;
  /** Value of a step scalar. */
  scalar(scalar: Scalar): number;
  /** Whether anybody looks at a row of the outputs (all axes but the last as one): a reference may leave out the others. */
  wanted(row: number): boolean;
}

/** How the elements of a test input are drawn: standard normal, rows of unit norm, uniform in (0, 1), or written out. */
export type Fill = 'normal' | 'unit-rows' | 'uniform' | ((random: Random) => ArrayLike<number>);

export interface CaseInput {
  readonly shape: readonly number[];
  readonly dtype?: DType;
  /** 'normal' if not said. */
  readonly fill?: Fill;
}

export interface Case<A extends Attributes> {
  readonly inputs: readonly CaseInput[];
  /** Attributes; `scalar(name, value)` makes a step scalar with a value for this case. */
  readonly attrs: A | ((scalar: (name: string, value: number, dtype?: Scalar['dtype']) => Scalar) => A);
}

/** How the benchmark comes to its inputs: from a shape that someone asks for, and from the nodes of a model. */
export interface Benched<A extends Attributes> {
  /** What the numbers of `--shape` mean, in order; those that end in `?` may be left out. */
  readonly dims: readonly string[];
  /** Tells several benches of one op apart: NN, NT and TN of a product. */
  readonly form?: string;
  /** A case of that shape; what cannot be is left to the op to refuse. */
  sized(...dims: readonly number[]): Case<A>;
  /** Shapes that a node of a model comes to: one for each segment or input, none where it has another form. */
  shapesOf(node: {
    readonly inputs: readonly Spec[];
    readonly outputs: readonly Spec[];
    readonly attrs: A;
  }): readonly (readonly number[])[];
  /** Which of the numbers grows with the batch, if not the first: models are benched at their largest one alone. */
  readonly growing?: number;
  /** Shapes beside those of the models: where these have none, or by which the op is judged. */
  readonly also?: readonly (readonly number[])[];
}

/**
 * What the tests know of an op: its float64 reference, written from the formula with plain loops, and its cases. From one
 * declaration the harness makes the value, gradient, determinism, guard and poison tests, and the benchmark.
 */
export interface OpTest<A extends Attributes> {
  readonly op: Op<A>;
  /** Outputs in order. An `update_*` op changes `inputs` in place and returns its outputs, if it has any. */
  reference(call: ReferenceCall<A>): readonly Values[];
  readonly cases: readonly Case<A>[];
  /** Cases in f16 beside those that follow from `cases` where the op takes inputs in f16 (`halfCases` of traced.ts). */
  readonly halfCases?: readonly Case<A>[];
  /**
   * Largest allowed error of an element in units of its tensor's RMS: a formula with its reason in a comment, such as
   * `8 * EPSILON * Math.sqrt(terms)`. Integer outputs must be equal. `index` is the output's, 0 for what an op updates.
   */
  tolerance(call: {
    readonly specs: readonly Spec[];
    readonly outputs: readonly Spec[];
    readonly attrs: A;
    readonly index: number;
  }): number;
  /**
   * For each output (null: no need), how large the terms are that each element is the sum of. Where they cancel, the tolerance
   * is in units of them: rounding is a share of what was rounded, not of what is left. To first order of the rounding errors.
   */
  terms?(call: ReferenceCall<A>): readonly (Values | null)[];
  /** Inputs and outputs between which `derivative` is tested; left out where there is none. */
  readonly gradient?: { readonly inputs: readonly number[]; readonly outputs: readonly number[] };
  /** Left out where the op is benched as the backward pass of another. */
  readonly bench?: Benched<A>;
  /** How many rows of a large result the benchmark checks; only where the reference honours `wanted`, else it checks all. */
  readonly sampledRows?: number;
}

/** Half a unit in the last place of 1 in f32. */
export const EPSILON = 2 ** -24;

/**
 * Largest share of a sum of `count` squares of normal numbers, one after the other in f32, that is lost because they are below
 * half a step of the sum, t = count EPSILON: the integral of s / sqrt(2 pi s) up to t. Little up to some thousand of them.
 */
export const lostOfSquares = (count: number): number => 0.27 * (count * EPSILON) ** 1.5;

/** Deterministic numbers for test inputs (mulberry32), apart from the engine's own generator. */
export class Random {
  constructor(private state: number) {}

  uniform(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Whole number in [0, n). */
  below(n: number): number {
    return Math.floor(this.uniform() * n);
  }
}

/** Identity that keeps the attribute type. */
export function opTest<A extends Attributes>(test: OpTest<A>): OpTest<A> {
  return test;
}
