import type { Graph, Node } from './graph.js';
import { GraphError, type NoAttributes, type Op } from './op.js';
import { sameShape, showShape, type Tensor } from './tensor.js';

/**
 * Appends the reverse-mode gradient nodes of a scalar to its graph and returns the gradient of each of `parameters`
 * (null where the scalar does not depend on it).
 *
 * A tensor used in several places has the sum of their gradients; this function alone adds them, with `sum` (an op of two
 * inputs of one shape), in the reverse order of the trace.
 *
 * `seed` [1] is what the gradient of the loss itself begins with, 1 where it is not given: all gradients are multiples of it.
 *
 * @throws GraphError for a loss that is not [1], and where a parameter is behind an op without derivative
 */
export function differentiate(
  graph: Graph,
  loss: Tensor,
  parameters: readonly Tensor[],
  sum: Op<NoAttributes>,
  seed: Tensor = graph.constant('d_loss', [1], new Float32Array([1])),
): (Tensor | null)[] {
  if (!sameShape(loss.shape, [1]))
    throw new GraphError('differentiate', `loss ${loss.label} has shape ${showShape(loss.shape)}, not [1]`);
  const reached = new Set(parameters);
  const path = behind(graph, loss).filter(({ inputs, outputs }) => {
    if (!inputs.some((tensor) => reached.has(tensor))) return false;
    for (const tensor of outputs) reached.add(tensor);
    return true;
  });
  const gradients = new Map<Tensor, Tensor>();
  gradients.set(loss, seed);

  const again = new Recomputation(graph);
  for (const node of path.reverse()) {
    const grads = node.outputs.map((tensor) => gradients.get(tensor) ?? null);
    const needs = node.inputs.map((tensor) => reached.has(tensor));
    if (grads.every((gradient) => gradient === null)) continue;
    const { derivative } = node.op;
    if (!derivative)
      throw new GraphError(node.op.name, 'has no derivative, but the loss depends on a parameter through it');
    const contributions = graph.scope(node.scope, () => derivative(graph, again.of(node), grads, needs));
    node.inputs.forEach((tensor, i) => {
      const contribution = contributions[i];
      if (!contribution || !needs[i]) return;
      if (!sameShape(contribution.shape, tensor.shape)) {
        throw new GraphError(
          node.op.name,
          `gradient ${showShape(contribution.shape)} of input ${tensor.label} ${showShape(tensor.shape)}`,
        );
      }
      const before = gradients.get(tensor);
      gradients.set(tensor, before ? graph.one(sum, [before, contribution], {}) : contribution);
    });
  }
  return parameters.map((parameter) => gradients.get(parameter) ?? null);
}

/** Second copies of the nodes in `graph.recomputed`, made when the backward pass reaches the last of a range. */
class Recomputation {
  private readonly copies = new Map<Node, Node>();

  constructor(private readonly graph: Graph) {}

  /** The node whose tensors a derivative may read: its copy, if it lies in a range that is computed again. */
  of(node: Node): Node {
    const range = this.graph.recomputed.find(({ first, end }) => first <= node.index && node.index < end);
    if (!range) return node;
    if (!this.copies.has(node)) this.copy(this.graph.nodes.slice(range.first, range.end));
    return this.copies.get(node) ?? node;
  }

  private copy(nodes: readonly Node[]): void {
    const fresh = new Map<Tensor, Tensor>();
    for (const node of nodes) {
      const inputs = node.inputs.map((tensor) => fresh.get(tensor) ?? tensor);
      const outputs = this.graph.scope(node.scope, () => this.graph.add(node.op, inputs, node.attrs));
      node.outputs.forEach((tensor, i) => {
        const copy = outputs[i];
        if (copy) fresh.set(tensor, copy);
      });
      const copied = this.graph.nodes.at(-1);
      if (!copied) continue;
      this.copies.set(node, copied);
      this.graph.repeats.add(copied);
    }
  }
}

/** All nodes that a tensor depends on, in their order. Not those of other micro-batches: with many these are most of the graph. */
function behind(graph: Graph, result: Tensor): Node[] {
  const found = new Set<Node>();
  const open = [result];
  for (let tensor = open.pop(); tensor; tensor = open.pop()) {
    const node = graph.makers.get(tensor);
    if (!node || found.has(node)) continue;
    found.add(node);
    open.push(...node.inputs);
  }
  return [...found].sort((a, b) => a.index - b.index);
}
