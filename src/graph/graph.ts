import { SCALAR_SLOTS } from './kernel.js';
import { type Attributes, GraphError, type Op, type Scalar } from './op.js';
import { type DType, elements, type Spec, type Storage, showShape, type Tensor } from './tensor.js';

/** One operation in a graph: data, not a closure, so that it can be printed, planned, replayed and interpreted. */
export interface Node<A extends Attributes = Attributes> {
  readonly index: number;
  readonly op: Op<A>;
  /** Part of the model it belongs to, `student.blocks.0.attn`, for profiles and messages. */
  readonly scope: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attrs: A;
}

/** Packed tensors begin at multiples of this many elements (256 bytes: WebGPU's offset alignment for bindings). */
export const PACK_ALIGNMENT = 64;

/** A flat tensor and the tensors that live in it one after the other. */
export interface Pack {
  readonly flat: Tensor;
  readonly members: readonly Tensor[];
}

/**
 * A computation with static shapes, in the order in which it is traced, which is the order in which it runs.
 * Tracing is calling `add`; nothing is computed.
 */
export class Graph {
  readonly nodes: Node[] = [];
  readonly tensors: Tensor[] = [];
  readonly scalars: Scalar[] = [];
  readonly packs: Pack[] = [];
  /** Ranges of nodes, first and end, whose inner tensors `differentiate` computes again instead of keeping them. */
  readonly recomputed: { readonly first: number; readonly end: number }[] = [];
  /** Nodes that compute again what others have computed: no work of the result's own. */
  readonly repeats = new Set<Node>();
  /** The node of each computed tensor. */
  readonly makers = new Map<Tensor, Node>();
  private readonly scopes: string[] = [];

  /** A tensor kept from step to step that has a gradient. */
  parameter(label: string, shape: readonly number[]): Tensor {
    return this.tensor(label, { shape, dtype: 'f32' }, 'parameter');
  }

  /** A tensor kept from step to step without a gradient; changed only by `update_*` nodes. */
  state(label: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    return this.tensor(label, { shape, dtype }, 'state');
  }

  /** A tensor that the host writes before each step. */
  input(label: string, shape: readonly number[], dtype: DType = 'f32'): Tensor {
    return this.tensor(label, { shape, dtype }, 'input');
  }

  /** A tensor with given contents. */
  constant(label: string, shape: readonly number[], data: Float32Array | Uint32Array | Int32Array): Tensor {
    if (data.length !== elements({ shape }))
      throw new GraphError(label, `${data.length} numbers for shape ${showShape(shape)}`);
    const dtype = data instanceof Float32Array ? 'f32' : data instanceof Uint32Array ? 'u32' : 'i32';
    return this.tensor(label, { shape, dtype }, 'constant', data);
  }

  /** A number that the host sets before each step. The same name gives the same scalar, of one type. */
  scalar(name: string, dtype: Scalar['dtype'] = 'f32'): Scalar {
    const known = this.scalars.find((scalar) => scalar.name === name);
    if (known && known.dtype !== dtype)
      throw new GraphError(name, `is a scalar of ${known.dtype} already, not of ${dtype}`);
    if (known) return known;
    if (this.scalars.length === SCALAR_SLOTS)
      throw new GraphError(name, `more than ${SCALAR_SLOTS} scalars in one graph`);
    const scalar = { name, dtype, slot: this.scalars.length };
    this.scalars.push(scalar);
    return scalar;
  }

  /** Appends a node and returns its outputs. @throws GraphError for inputs or attributes that the op does not take */
  add<A extends Attributes>(op: Op<A>, inputs: readonly Tensor[], attrs: A): readonly Tensor[] {
    for (const tensor of inputs) {
      if (this.tensors[tensor.id] !== tensor)
        throw new GraphError(op.name, `input ${tensor.label} belongs to another graph`);
    }
    inputs.forEach(({ label, dtype }, i) => {
      const wanted = op.words?.(i, attrs) ? 'u32' : op.halves?.includes(i) ? 'f32 or f16' : 'f32';
      if (!wanted.includes(dtype)) throw new GraphError(op.name, `${label} is ${dtype}, expected ${wanted}`);
    });
    for (const index of op.updates ?? []) {
      const tensor = inputs[index];
      if (tensor?.storage !== 'parameter' && tensor?.storage !== 'state') {
        throw new GraphError(op.name, `changes ${tensor?.label}, which is ${tensor?.storage} and not state`);
      }
    }
    const specs = op.infer(inputs, attrs);
    const index = this.nodes.length;
    const scope = this.scopes.join('.');
    const name = `${scope}${scope && '/'}${op.name}[${index}]`;
    const outputs = specs.map((spec, i) => this.tensor(specs.length > 1 ? `${name}.${i}` : name, spec, 'computed'));
    // Ops are contravariant in their attributes; a node is only ever handed back to the op that made it.
    const node = { index, op, scope, inputs, outputs, attrs } as unknown as Node;
    this.nodes.push(node);
    for (const tensor of outputs) this.makers.set(tensor, node);
    return outputs;
  }

  /** `add` for ops with one output. */
  one<A extends Attributes>(op: Op<A>, inputs: readonly Tensor[], attrs: A): Tensor {
    const [only, ...others] = this.add(op, inputs, attrs);
    if (only === undefined || others.length > 0) throw new GraphError(op.name, 'has not exactly one output');
    return only;
  }

  /** `add` for ops with two outputs: results, or one and what its derivative reads besides. */
  pair<A extends Attributes>(op: Op<A>, inputs: readonly Tensor[], attrs: A): readonly [Tensor, Tensor] {
    const [first, second, ...others] = this.add(op, inputs, attrs);
    if (!first || !second || others.length > 0) throw new GraphError(op.name, 'has not exactly two outputs');
    return [first, second];
  }

  /** Nodes traced inside `body` carry `name` in their scope. */
  scope<T>(name: string, body: () => T): T {
    this.scopes.push(name);
    try {
      return body();
    } finally {
      this.scopes.pop();
    }
  }

  /**
   * Activation checkpointing: what is traced inside `body` runs a second time in the backward pass, so that of all its
   * tensors only inputs and results stay alive between. The gradients have the same bits.
   */
  recompute<T>(body: () => T): T {
    const first = this.nodes.length;
    const result = body();
    this.recomputed.push({ first, end: this.nodes.length });
    return result;
  }

  /**
   * Puts f32 tensors one behind the other into flat state tensors of at most `maxElements` elements each, so that one dispatch
   * can read or write them as a whole. The members keep their identity and become views. Padding between them is zero at
   * the start and must not be relied on. Computed tensors may be packed too: their nodes then write straight into the pack.
   */
  pack(label: string, members: readonly Tensor[], maxElements: number): Pack[] {
    const groups: Tensor[][] = [];
    let room = 0;
    for (const tensor of members) {
      if (tensor.view) throw new GraphError(label, `${tensor.label} is packed already`);
      if (tensor.dtype !== 'f32') throw new GraphError(label, `${tensor.label} is ${tensor.dtype}, a pack holds f32`);
      const size = packedSize(tensor);
      if (size > maxElements)
        throw new GraphError(label, `${tensor.label} alone has ${size} of at most ${maxElements} elements`);
      if (size > room) {
        groups.push([]);
        room = maxElements;
      }
      groups.at(-1)?.push(tensor);
      room -= size;
    }
    const packs = groups.map((group, i) => {
      const total = group.reduce((sum, tensor) => sum + packedSize(tensor), 0);
      const flat = this.tensor(groups.length > 1 ? `${label}.${i}` : label, { shape: [total], dtype: 'f32' }, 'state');
      let offset = 0;
      for (const tensor of group) {
        tensor.view = { of: flat, offset };
        offset += packedSize(tensor);
      }
      return { flat, members: group };
    });
    this.packs.push(...packs);
    return packs;
  }

  private tensor(label: string, spec: Spec, storage: Storage, data?: Tensor['data']): Tensor {
    if (spec.shape.length === 0 || !spec.shape.every((side) => Number.isInteger(side) && side > 0)) {
      throw new GraphError(label, `shape ${showShape(spec.shape)} is not a list of positive whole numbers`);
    }
    const base = { id: this.tensors.length, label, shape: [...spec.shape], dtype: spec.dtype, storage, view: null };
    const tensor: Tensor = data ? { ...base, data } : base;
    this.tensors.push(tensor);
    return tensor;
  }
}

/** Elements that a tensor takes in a pack. */
export function packedSize(tensor: Spec): number {
  return Math.ceil(elements(tensor) / PACK_ALIGNMENT) * PACK_ALIGNMENT;
}
