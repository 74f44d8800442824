import type { Graph } from '../graph/graph.js';
import { bytes, type Spec, type Tensor } from '../graph/tensor.js';

/** From the node that writes it to the last node that reads it, both included: both touch the buffer. */
export interface Lifetime {
  readonly first: number;
  readonly last: number;
}

/** Something that needs bytes for part of a step: a computed tensor, or scratch of one node. */
export interface Temporary {
  readonly label: string;
  readonly bytes: number;
  readonly lifetime: Lifetime;
  readonly kind: 'tensor' | 'scratch';
}

/**
 * Lifetimes of the computed tensors of a graph. Tensors in `kept` are read by the host after the step and live to its end.
 * Packed tensors have no lifetime of their own: their pack is state.
 */
export function lifetimes(graph: Graph, kept: readonly Tensor[]): Map<Tensor, Lifetime> {
  const result = new Map<Tensor, Lifetime>();
  const end = graph.nodes.length;
  const touch = (tensor: Tensor, index: number): void => {
    if (tensor.storage !== 'computed' || tensor.view) return;
    const known = result.get(tensor);
    result.set(
      tensor,
      known ? { first: known.first, last: Math.max(known.last, index) } : { first: index, last: index },
    );
  };
  for (const node of graph.nodes) {
    for (const tensor of node.outputs) touch(tensor, node.index);
    for (const tensor of node.inputs) touch(tensor, node.index);
  }
  for (const tensor of kept) touch(tensor, end);
  return result;
}

/** The temporary that holds a spec during a lifetime. */
export function temporary(kind: Temporary['kind'], label: string, spec: Spec, lifetime: Lifetime): Temporary {
  return { label, bytes: bytes(spec), lifetime, kind };
}
