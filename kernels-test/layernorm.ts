import { layernorm, layernormBackward } from '../src/ops/layernorm.js';
import { EPSILON, lostOfSquares, opTest, type Random, type Values } from './declare.js';

const EPS = 1e-6;

function statistics(x: Values, rows: number, width: number): Values {
  const stats = new Float64Array(2 * rows);
  for (let row = 0; row < rows; row++) {
    let [mean, variance] = [0, 0];
    for (let i = row * width; i < (row + 1) * width; i++) mean += x[i]! / width;
    for (let i = row * width; i < (row + 1) * width; i++) variance += (x[i]! - mean) ** 2 / width;
    stats[2 * row] = mean;
    stats[2 * row + 1] = 1 / Math.sqrt(variance + EPS);
  }
  return stats;
}

const shapes = [
  [1, 7],
  [7, 64],
  [65, 197],
  [37, 384],
  [3, 1024],
] as const;

/** Rows far from zero, as after many residual blocks: a naive E[x^2] - E[x]^2 fails here. */
const shifted = (random: Random): number[] => Array.from({ length: 9 * 192 }, () => 30 + random.normal());

/** Rows whose first channels are far out: the worst case for a pivot taken from them. */
const outliers = (random: Random): number[] =>
  Array.from({ length: 9 * 192 }, (_, i) => (i % 192 < 4 ? 60 : 0) + random.normal());

/** Any (mean, 1 / std) will do where they are inputs. */
const someStats = (rows: number) => (random: Random) =>
  Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? 0.5 + random.uniform() : random.normal()));

const forwardCase = (rows: number, width: number) => ({
  inputs: [{ shape: [rows, width] }, { shape: [width] }, { shape: [width] }],
  attrs: { eps: EPS },
});

export const layernormTests = [
  opTest({
    op: layernorm,
    reference({ inputs: [x, gamma, beta], outputs: [y] }) {
      const [rows = 0, width = 0] = y!.shape;
      const stats = statistics(x!, rows, width);
      const normal = x!.map((value, i) => {
        const row = Math.floor(i / width);
        return (value - stats[2 * row]!) * stats[2 * row + 1]! * gamma![i % width]! + beta![i % width]!;
      });
      return [normal, stats];
    },
    cases: [
      ...shapes.map(([rows, width]) => forwardCase(rows, width)),
      { inputs: [{ shape: [9, 192], fill: shifted }, { shape: [192] }, { shape: [192] }], attrs: { eps: EPS } },
      { inputs: [{ shape: [9, 192], fill: outliers }, { shape: [192] }, { shape: [192] }], attrs: { eps: EPS } },
    ],
    // The last of a network's, whose result the head reads in f32.
    halfCases: [
      [7, 64],
      [5, 30],
    ].map(([rows = 0, width = 0]) => ({
      inputs: [{ shape: [rows, width], dtype: 'f16' as const }, { shape: [width] }, { shape: [width] }],
      attrs: { eps: EPS, dtype: 'f32' as const },
    })),
    // Means of W terms of both signs, summed in no more than W / 4 steps, and half a dozen other roundings; the pivot adds a
    // few in the worst case; elements up to 5 RMS. And what `lostOfSquares` takes of the variance.
    tolerance({ specs: [x] }) {
      const width = x!.shape[1]!;
      return 5 * ((8 + Math.sqrt(width) / 8) * EPSILON + lostOfSquares(width) / 2);
    },
    // xhat gamma and beta, of either sign; the numbers that a mean is of; 1 / std, which varies much between short rows.
    terms({ inputs: [x, gamma, beta], outputs: [y] }) {
      const [rows = 0, width = 0] = y!.shape;
      const stats = statistics(x!, rows, width);
      const sizesOfStats = stats.map((value, i) => (i % 2 ? value : 0));
      const sizes = x!.map((value, i) => {
        const row = Math.floor(i / width);
        sizesOfStats[2 * row]! += Math.abs(value) / width;
        const xhat = (value - stats[2 * row]!) * stats[2 * row + 1]!;
        return Math.abs(xhat * gamma![i % width]!) + Math.abs(beta![i % width]!);
      });
      return [sizes, sizesOfStats];
    },
    gradient: { inputs: [0, 1, 2], outputs: [0] },
    bench: {
      dims: ['rows', 'width'],
      sized: forwardCase,
      shapesOf: ({ inputs: [x] }) => [x!.shape],
      also: [[12_000, 384]],
    },
  }),
  opTest({
    op: layernormBackward,
    reference({ inputs: [x, gamma, stats, dy], specs: [shape] }) {
      const [rows = 0, width = 0] = shape!.shape;
      const [dx, dgamma, dbeta] = [new Float64Array(rows * width), new Float64Array(width), new Float64Array(width)];
      for (let row = 0; row < rows; row++) {
        const [mean, r] = [stats![2 * row]!, stats![2 * row + 1]!];
        const xhat = (i: number): number => (x![row * width + i]! - mean) * r;
        let sum = 0;
        let product = 0;
        for (let i = 0; i < width; i++) {
          const g = dy![row * width + i]! * gamma![i]!;
          sum += g / width;
          product += (g * xhat(i)) / width;
          dgamma[i]! += dy![row * width + i]! * xhat(i);
          dbeta[i]! += dy![row * width + i]!;
        }
        for (let i = 0; i < width; i++)
          dx[row * width + i] = r * (dy![row * width + i]! * gamma![i]! - sum - xhat(i) * product);
      }
      return [dx, dgamma, dbeta];
    },
    cases: [...shapes, [1400, 64] as const].map(([rows, width]) => ({
      inputs: [
        { shape: [rows, width] },
        { shape: [width] },
        { shape: [rows, 2], fill: someStats(rows) },
        { shape: [rows, width] },
      ],
      attrs: {},
    })),
    // Columns and rows up to 5 RMS. dx as forward, of each of the terms: two means, half a dozen other roundings. Of dgamma and
    // dbeta R additions in two stages, of sqrt(R) or of 32 and R / 32, whose errors add up like the square root of their number.
    tolerance({ specs: [x], index }) {
      const [rows = 0, width = 0] = x!.shape;
      const dx = 8 + Math.sqrt(width) / 8;
      const parameters = 4 + Math.max(2 * rows ** 0.25, Math.sqrt(32 + rows / 32));
      return 5 * (index === 0 ? dx : parameters) * EPSILON;
    },
    // Of dx: g, its mean and its part along xhat: the fewer the columns, the less is left; of two columns only what eps leaves.
    // Of the others: the sums of terms of both signs, as large as they are where these do not happen to cancel. And everywhere
    // xhat is off by what the mean of its row was rounded by, which is much where a row varies little about a mean far from 0.
    terms({ inputs: [x, gamma, stats, dy], specs: [shape] }) {
      const [rows = 0, width = 0] = shape!.shape;
      const sizes = new Float64Array(rows * width);
      const squares = [new Float64Array(width), new Float64Array(width)] as const;
      for (let row = 0; row < rows; row++) {
        const [mean, r] = [stats![2 * row]!, stats![2 * row + 1]!];
        const far = Math.abs(mean) * r;
        const g = (i: number): number => Math.abs(dy![row * width + i]! * gamma![i]!);
        const xhat = (i: number): number => Math.abs(x![row * width + i]! - mean) * r;
        let [sum, product] = [0, 0];
        for (let i = 0; i < width; i++) {
          sum += g(i) / width;
          product += (g(i) * xhat(i)) / width;
          squares[0][i]! += dy![row * width + i]! ** 2 * (xhat(i) ** 2 + far ** 2);
          squares[1][i]! += dy![row * width + i]! ** 2;
        }
        for (let i = 0; i < width; i++)
          sizes[row * width + i] = r * (g(i) + sum + xhat(i) * product + far * (product + xhat(i) * sum));
      }
      return [sizes, ...squares.map((sums) => sums.map(Math.sqrt))];
    },
  }),
];
