import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import type { Graph, Node } from './graph.js';
import type { Kernel } from './kernel.js';
import { moved, type Spec, showSpec, type Tensor } from './tensor.js';

/** A number that the host sets before each step (learning rate, temperature, seed): a slot of the step uniform. */
export interface Scalar {
  readonly name: string;
  readonly dtype: 'f32' | 'u32';
  readonly slot: number;
}

/** What an op is told besides its inputs: numbers, names, small lists. Plain data, so that it prints and hashes. */
export type Attributes = Readonly<Record<string, Attribute>>;
export type Attribute =
  | number
  | string
  | boolean
  | Scalar
  | readonly Attribute[]
  | { readonly [key: string]: Attribute };

/** Of an op that is told nothing besides its inputs. */
export type NoAttributes = Record<string, never>;

/** What a launch binds to a kernel's bindings, by name: an input, output or scratch tensor of its node. */
export type Operand =
  | { readonly kind: 'input'; readonly index: number }
  | { readonly kind: 'output'; readonly index: number }
  | { readonly kind: 'scratch'; readonly index: number };

/** One dispatch. */
export interface Launch {
  readonly kernel: Kernel;
  /** One operand for every binding that the kernel declares. */
  readonly bindings: Readonly<Record<string, Operand>>;
  /** One number for every field of the kernel's `params`. */
  readonly params: Readonly<Record<string, number>>;
  /** How many there are, or can be where the device decides. */
  readonly workgroups: readonly [number, number, number];
  /** Work that it does at most, recomputation included: by it submits are cut. Where no launch of a node says it, they share its cost. */
  readonly flops?: number;
  /** Work of no fixed size: three u32 of the operand, from element `first` on, are the workgroups of this dispatch. */
  readonly indirect?: { readonly operand: Operand; readonly first: number };
}

/** Work of a node by formula: what the result needs, not what a kernel spends. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** Everything an op may look at when it says how it is computed on `target`. */
export interface OpCall<A extends Attributes> {
  readonly inputs: readonly Spec[];
  readonly outputs: readonly Spec[];
  readonly attrs: A;
  readonly target: Target;
  /** One of the op's `variants` for this call, where it has some; without it the op takes the first. */
  readonly variant?: string | undefined;
}

/**
 * The contract of an operation. One object says all there is to know of it but its kernels (shaders/<op>.wgsl.ts) and
 * its float64 reference (kernels-test/<op>.ts).
 */
export interface Op<A extends Attributes = Attributes> {
  readonly name: string;
  /** Specs of the outputs. @throws GraphError when inputs or attributes disagree */
  infer(inputs: readonly Spec[], attrs: A): readonly Spec[];
  /**
   * Names of the ways to compute this call, the built-in choice first. Absent where there is but one. `sop-gpu tune` times
   * them on an adapter; a name that is no longer in the list is ignored, so a variant may come and go.
   */
  variants?(call: OpCall<A>): readonly string[];
  /** Temporary buffers of one node, alive only while its launches run. */
  scratch?(call: OpCall<A>): readonly Spec[];
  /** The dispatches, in order. */
  launches(call: OpCall<A>): readonly Launch[];
  /**
   * Appends the nodes that compute the gradients of a node's inputs.
   * `grads[i]` belongs to output i, null where nothing depends on it; `needs[i]` says whether input i wants one.
   * Returns a tensor or null for each input. Absent where an op has no derivative.
   */
  derivative?(
    graph: Graph,
    node: Node<A>,
    grads: readonly (Tensor | null)[],
    needs: readonly boolean[],
  ): readonly (Tensor | null)[];
  /** Contents of inputs, by their number, as they usually are: where the time that a call takes depends on them. */
  typical?(call: OpCall<A>): ReadonlyMap<number, Uint32Array<ArrayBuffer>>;
  /** Left out, `flops` are none and `bytes` those of all inputs and outputs. */
  cost?(inputs: readonly Spec[], outputs: readonly Spec[], attrs: A): Partial<Cost>;
  /** Whether an input holds u32 (indices, masks, flags, pixels): the others hold real numbers. None where left out. */
  words?(index: number, attrs: A): boolean;
  /** Inputs of real numbers that may be stored in f16; the others must not. */
  readonly halves?: readonly number[];
  /** Inputs that the op changes in place. Only ops whose name begins with `update_` have any. */
  readonly updates?: readonly number[];
}

/** The cost of a node, by its op. */
export const costOf = ({ op, inputs, outputs, attrs }: Pick<Node, 'op' | 'inputs' | 'outputs' | 'attrs'>): Cost => ({
  flops: 0,
  bytes: moved(...inputs, ...outputs),
  ...op.cost?.(inputs, outputs, attrs),
});

export const input = (index: number): Operand => ({ kind: 'input', index });
export const output = (index: number): Operand => ({ kind: 'output', index });
export const scratch = (index: number): Operand => ({ kind: 'scratch', index });

/** An op was given what it cannot work on. */
export class GraphError extends SopError {
  constructor(op: string, why: string, fix = 'correct the code that calls it') {
    super(ExitCode.internal, { what: 'operation refused', where: op, why, fix });
  }
}

/** `gelu_backward: x f32 [2, 3], dy f32 [3]; expected x and dy of one shape and type`: what an op was given, by name. */
export function misfit(op: string, given: Readonly<Record<string, Spec | undefined>>, expected: string): GraphError {
  const came = Object.entries(given).map(([name, spec]) => `${name} ${showSpec(spec)}`);
  return new GraphError(op, `${came.join(', ')}; expected ${expected}`);
}

/** Identity with type inference: `export const gelu = defineOp({...})`. */
export function defineOp<A extends Attributes>(op: Op<A>): Op<A> {
  if (op.updates && !op.name.startsWith('update_'))
    throw new GraphError(op.name, 'changes state but is not named update_*');
  return op;
}
