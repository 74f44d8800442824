import type { Scalar } from '../src/graph/op.js';
import { type SopAttributes, sopProbabilities, sopProbabilitiesBackward } from '../src/ops/sop_probabilities.js';
import { EPSILON, opTest, type Random, type ReferenceCall, type Values } from './declare.js';

/** softmax(u D^T / tau) of one row, with the largest logit and the inverse of the sum of exponentials. */
function softmaxRow(u: Values, d: Values, tau: number): { p: Values; most: number; inverse: number } {
  const count = d.length / u.length;
  const logits = new Float64Array(count);
  for (let j = 0; j < count; j++) for (let c = 0; c < u.length; c++) logits[j]! += (u[c]! * d[j * u.length + c]!) / tau;
  const most = logits.reduce((a, b) => Math.max(a, b));
  const exponentials = logits.map((logit) => Math.exp(logit - most));
  const inverse = 1 / exponentials.reduce((a, b) => a + b, 0);
  return { p: exponentials.map((e) => e * inverse), most, inverse };
}

const sopCase = (rows: number, sops: number, members: number, depth: number, temperature: number) => ({
  inputs: [
    { shape: [rows, depth], fill: 'unit-rows' as const },
    { shape: [sops * members, depth], fill: 'unit-rows' as const },
    // Contributions lie in [1 / K, 1].
    {
      shape: [sops * members],
      fill: (random: Random) => Array.from({ length: sops * members }, () => 1 - (1 - 1 / sops) * random.uniform()),
    },
  ],
  attrs: (scalar: (name: string, value: number) => Scalar) => ({ members, temperature: scalar('tau', temperature) }),
});

export const sopProbabilitiesTests = [
  opTest({
    op: sopProbabilities,
    reference({ inputs: [u, d, s], specs, outputs, attrs, scalar, wanted }) {
      const depth = specs[0]!.shape[1]!;
      const [rows, sops] = outputs[0]!.shape as [number, number];
      const result = new Float64Array(rows * sops);
      const stats = new Float64Array(rows * 2);
      for (let row = 0; row < rows; row++) {
        if (!wanted(row)) continue;
        const { p, most, inverse } = softmaxRow(
          u!.subarray(row * depth, (row + 1) * depth),
          d!,
          scalar(attrs.temperature),
        );
        stats.set([most, inverse], 2 * row);
        p.forEach((pj, j) => {
          const other = (1 - s![j]!) / (sops - 1);
          for (let i = 0; i < sops; i++)
            result[row * sops + i]! += pj * (i === Math.floor(j / attrs.members) ? s![j]! : other);
        });
      }
      return [result, stats];
    },
    cases: [
      sopCase(1, 2, 1, 1, 0.1),
      sopCase(7, 5, 3, 17, 0.1),
      sopCase(33, 20, 5, 16, 0.04),
      sopCase(9, 5, 17, 20, 0.1),
      sopCase(35, 70, 1, 8, 0.01),
      sopCase(67, 23, 3, 12, 0.1),
    ],
    tolerance,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'sops', 'members', 'width'],
      sized: (rows, sops, members, width) => sopCase(rows, sops, members, width, 0.1),
      shapesOf: ({ inputs: [u], outputs: [p], attrs: { members } }) => [
        [u!.shape[0]!, p!.shape[1]!, members, u!.shape[1]!],
      ],
    },
    sampledRows: 2,
  }),
  opTest({
    op: sopProbabilitiesBackward,
    reference: (call) => [
      sumOfWeighted(
        call,
        (p, slope, mean) => p * (slope - mean),
        (sum, term) => sum + term,
      ),
    ],
    // Exercised through the cases of `sop_probabilities`: stats and P must belong to u.
    cases: [],
    sampledRows: 2,
    tolerance,
    // Where all logits of weight are alike, as those of unit rows of one number are, what is subtracted is the whole.
    terms: (call) => {
      const squares = sumOfWeighted(
        call,
        (p, slope, mean) => p * (Math.abs(slope) + Math.abs(mean)),
        (sum, term) => sum + term ** 2,
      );
      return [squares.map(Math.sqrt)];
    },
  }),
];

/**
 * For each row of du the sum over j of `weight` D_j / tau, added up by `add`. `slope` is dL/dp_j, the row of dP Y^T, and `mean`
 * what p makes of all of them.
 */
function sumOfWeighted(
  { inputs: [u, d, s, , , dp], specs, attrs, scalar, wanted }: ReferenceCall<SopAttributes>,
  weight: (p: number, slope: number, mean: number) => number,
  add: (sum: number, term: number) => number,
): Float64Array {
  const [rows, depth] = specs[0]!.shape as [number, number];
  const sops = specs[5]!.shape[1]!;
  const tau = scalar(attrs.temperature);
  const du = new Float64Array(rows * depth);
  for (let row = 0; row < rows; row++) {
    if (!wanted(row)) continue;
    const { p } = softmaxRow(u!.subarray(row * depth, (row + 1) * depth), d!, tau);
    const g = dp!.subarray(row * sops, (row + 1) * sops);
    const slopes = p.map((_, j) => {
      const other = (1 - s![j]!) / (sops - 1);
      return g.reduce((sum, value, i) => sum + value * (i === Math.floor(j / attrs.members) ? s![j]! : other), 0);
    });
    const mean = p.reduce((sum, pj, j) => sum + pj * slopes[j]!, 0);
    p.forEach((pj, j) => {
      const w = weight(pj, slopes[j]!, mean) / tau;
      for (let c = 0; c < depth; c++) {
        const at = row * depth + c;
        du[at] = add(du[at]!, w * d![j * depth + c]!);
      }
    });
  }
  return du;
}

/** 1 / tau of the sharpest case. */
const SHARPEST = 100;

/**
 * A logit is at most 1 / tau and off by a few EPSILON of that, which is the relative error of its exponential; sums of
 * positive terms do not amplify it, the differences of backward by a small factor.
 */
function tolerance(): number {
  return 8 * EPSILON * SHARPEST;
}
