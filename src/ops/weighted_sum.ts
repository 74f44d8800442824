import { weightedSumAddTermKernel } from '../../shaders/weighted_sum.wgsl.js';
import { defineOp, GraphError, input, type Op, output } from '../graph/op.js';
import { f32, sameShape, showShape } from '../graph/tensor.js';

type Weights = { readonly weights: readonly number[] };

/** y = sum of weights[i] x_i. Inputs: one scalar [1] for each weight. Output: y [1]. */
export const weightedSum: Op<Weights> = defineOp<Weights>({
  name: 'weighted_sum',
  infer(terms, { weights }) {
    const other = terms.find(({ shape }) => !sameShape(shape, [1]));
    if (other) throw new GraphError('weighted_sum', `a term has shape ${showShape(other.shape)}, not [1]`);
    if (terms.length === 0 || terms.length !== weights.length) {
      throw new GraphError('weighted_sum', `${weights.length} weights for ${terms.length} terms`);
    }
    return [f32(1)];
  },
  launches: ({ attrs: { weights } }) =>
    weights.map((weight, term) => ({
      kernel: weightedSumAddTermKernel(),
      bindings: { x: input(term), y: output(0) },
      params: { weight, term },
      workgroups: [1, 1, 1],
    })),
  derivative: (graph, { attrs: { weights } }, [dy], needs) =>
    weights.map((weight, term) => (dy && needs[term] ? graph.one(weightedSum, [dy], { weights: [weight] }) : null)),
  cost: (terms) => ({ flops: 2 * terms.length }),
});
