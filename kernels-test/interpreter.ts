import type { Graph } from '../src/graph/graph.js';
import type { Attributes, Scalar } from '../src/graph/op.js';
import { elements, type Tensor } from '../src/graph/tensor.js';
import type { OpTest, Values } from './declare.js';
import { roundHalf } from './traced.js';

/** A test of an op whose attribute type is no longer known. */
export type AnyOpTest = OpTest<Attributes>;

/** Float64 values of all tensors of a graph, by the references of `kernels-test/<op>.ts`. */
export class Interpreter {
  readonly values = new Map<Tensor, Values>();
  readonly scalars = new Map<string, number>();
  /** Of results whose op declares them: how large the terms of each element are. */
  readonly terms = new Map<Tensor, Values>();
  private readonly references: ReadonlyMap<string, AnyOpTest>;

  constructor(
    private readonly graph: Graph,
    tests: readonly AnyOpTest[],
  ) {
    this.references = new Map(tests.map((test) => [test.op.name, test]));
  }

  set(tensor: Tensor, values: ArrayLike<number>): void {
    this.values.set(tensor, Float64Array.from(values));
  }

  /** Value of a tensor; state that was never set is zero, as on the device. */
  get(tensor: Tensor): Values {
    const found = this.values.get(tensor);
    if (found) return found;
    if (tensor.storage === 'computed') throw new Error(`${tensor.label} has not been computed`);
    const fresh = tensor.data ? Float64Array.from(tensor.data) : new Float64Array(elements(tensor));
    this.values.set(tensor, fresh);
    return fresh;
  }

  /** Runs all nodes in order. Packs are filled from their members before a node reads them and spread afterwards. */
  run(): void {
    for (const node of this.graph.nodes) {
      const reference = this.references.get(node.op.name);
      if (!reference) throw new Error(`no float64 reference for ${node.op.name}`);
      const call = {
        inputs: node.inputs.map((tensor) => this.gather(tensor)),
        specs: node.inputs,
        outputs: node.outputs,
        attrs: node.attrs,
        scalar: (scalar: Scalar) => {
          const value = this.scalars.get(scalar.name);
          if (value === undefined) throw new Error(`scalar ${scalar.name} has no value`);
          return value;
        },
        wanted: () => true,
      };
      reference.terms?.(call).forEach((values, i) => {
        const tensor = node.outputs[i];
        if (values && tensor) this.terms.set(tensor, values);
      });
      const outputs = reference.reference(call);
      if (outputs.length !== node.outputs.length)
        throw new Error(`reference of ${node.op.name} returns ${outputs.length} outputs`);
      node.outputs.forEach((tensor, i) => {
        const values = outputs[i];
        if (values?.length !== elements(tensor))
          throw new Error(`reference of ${node.op.name}: output ${i} has ${values?.length} elements`);
        // What comes after reads what the device stores.
        this.values.set(tensor, tensor.dtype === 'f16' ? roundHalf(values) : values);
      });
      for (const index of node.op.updates ?? []) {
        const tensor = node.inputs[index];
        if (tensor) this.spread(tensor);
      }
    }
  }

  private gather(tensor: Tensor): Values {
    const pack = this.graph.packs.find(({ flat }) => flat === tensor);
    if (!pack) return this.get(tensor);
    const flat = new Float64Array(elements(tensor));
    for (const member of pack.members) flat.set(this.get(member), member.view?.offset ?? 0);
    this.values.set(tensor, flat);
    return flat;
  }

  private spread(tensor: Tensor): void {
    const pack = this.graph.packs.find(({ flat }) => flat === tensor);
    for (const member of pack?.members ?? []) {
      const offset = member.view?.offset ?? 0;
      this.values.set(member, this.get(tensor).slice(offset, offset + elements(member)));
    }
  }
}
