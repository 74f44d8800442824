import { weightedSum } from '../src/ops/weighted_sum.js';
import { EPSILON, opTest } from './declare.js';

const weights = [1, 0.25, -3, 0, 0.1, 2, -0.5, 7, 0.75];

/** No loss has nearly as many. */
const MOST_TERMS = 1000;

const termsCase = (terms: number) => ({
  inputs: Array.from({ length: terms }, () => ({ shape: [1], fill: 'uniform' as const })),
  attrs: { weights: Array.from({ length: terms }, (_, i) => weights[i % weights.length]!) },
});

export const weightedSumTests = [
  opTest({
    op: weightedSum,
    reference: ({ inputs, attrs }) => [
      Float64Array.of(inputs.reduce((sum, [x], i) => sum + attrs.weights[i]! * x!, 0)),
    ],
    // 9 terms: more than the bindings of one dispatch.
    cases: [1, 2, 9].map(termsCase),
    // Two roundings a term, and the terms, of both signs, sum to no less than a third of the largest.
    tolerance: ({ specs }) => 6 * specs.length * EPSILON,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['terms'],
      sized(terms) {
        if (terms > MOST_TERMS) throw new RangeError(`a sum of ${terms} terms, each a tensor; at most ${MOST_TERMS}`);
        return termsCase(terms);
      },
      shapesOf: ({ inputs }) => [[inputs.length]],
      also: [[2]],
    },
  }),
];
