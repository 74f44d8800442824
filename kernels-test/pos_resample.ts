import { posResample, posResampleBackward } from '../src/ops/pos_resample.js';
import { EPSILON, opTest } from './declare.js';

type Grid = readonly [number, number];

/** Keys' cubic convolution kernel with A = -0.75, at distance x. */
function cubic(x: number): number {
  const a = -0.75;
  const d = Math.abs(x);
  if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
  return d < 2 ? a * (d ** 3 - 5 * d ** 2 + 8 * d - 4) : 0;
}

/** [to, from] matrix of one axis. */
function axis(from: number, to: number, same: boolean): number[][] {
  const scale = same ? 1 : (to + 0.1) / from;
  return Array.from({ length: to }, (_, d) => {
    const weights = new Array<number>(from).fill(0);
    const source = (d + 0.5) / scale - 0.5;
    for (let tap = Math.floor(source) - 1; tap <= Math.floor(source) + 2; tap++) {
      weights[Math.min(from - 1, Math.max(0, tap))]! += cubic(source - tap);
    }
    return weights;
  });
}

/** The weight of every (output row, input row) that is not 0. */
function* taps(from: Grid, to: Grid): Generator<readonly [number, number, number]> {
  yield [0, 0, 1];
  const same = from[0] === to[0] && from[1] === to[1];
  const [vertical, horizontal] = [axis(from[0], to[0], same), axis(from[1], to[1], same)];
  for (let y = 0; y < to[0]; y++)
    for (let x = 0; x < to[1]; x++)
      for (let j = 0; j < from[0]; j++)
        for (let k = 0; k < from[1]; k++) {
          const weight = vertical[y]![j]! * horizontal[x]![k]!;
          if (weight !== 0) yield [1 + y * to[1] + x, 1 + j * from[1] + k, weight];
        }
}

const cases = [
  { from: [14, 14], to: [6, 6], width: 8 },
  { from: [4, 4], to: [2, 2], width: 7 },
  { from: [2, 3], to: [5, 4], width: 64 },
  { from: [3, 3], to: [3, 3], width: 4 },
  { from: [1, 1], to: [2, 1], width: 1 },
] as const;

/** Output cells that read an input cell, at most: 4 of the old grid's width on each axis, and none twice. */
const collected = ({ from, to }: { from: Grid; to: Grid }): number =>
  [0, 1].reduce((cells, i) => cells * Math.min(to[i]!, Math.ceil((4 * (to[i]! + 0.1)) / from[i]!)), 1);

export const posResampleTests = [
  opTest({
    op: posResample,
    reference({ inputs: [pos], outputs: [out], attrs: { from, to } }) {
      const [rows = 0, width = 0] = out!.shape;
      const result = new Float64Array(rows * width);
      for (const [row, source, weight] of taps(from, to)) {
        for (let i = 0; i < width; i++) result[row * width + i]! += weight * pos![source * width + i]!;
      }
      return [result];
    },
    cases: cases.map(({ from, to, width }) => ({
      inputs: [{ shape: [1 + from[0] * from[1], width] }],
      attrs: { from, to },
    })),
    // Weights have a few roundings each and absolute values that sum to below 2; elements up to 5 RMS.
    tolerance: () => 5 * 12 * EPSILON,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['from-side', 'to-side', 'width'],
      sized: (from, to, width) => ({
        inputs: [{ shape: [1 + from * from, width] }],
        attrs: { from: [from, from] as const, to: [to, to] as const },
      }),
      shapesOf: ({ inputs: [pos], attrs: { from, to } }) => [[from[0], to[0], pos!.shape[1]!]],
    },
  }),
  opTest({
    op: posResampleBackward,
    reference({ inputs: [dout], outputs: [dpos], attrs: { from, to } }) {
      const [rows = 0, width = 0] = dpos!.shape;
      const result = new Float64Array(rows * width);
      for (const [row, source, weight] of taps(from, to)) {
        for (let i = 0; i < width; i++) result[source * width + i]! += weight * dout![row * width + i]!;
      }
      return [result];
    },
    cases: cases.map(({ from, to, width }) => ({
      inputs: [{ shape: [1 + to[0] * to[1], width] }],
      attrs: { from, to },
    })),
    // Weights as forward, on the border to 2.5. n terms of both signs are added in series: each rounding is one of a partial
    // sum, and together they are sqrt(n / 2) of the whole sum's.
    tolerance: ({ attrs }) => 5 * (24 + Math.sqrt(collected(attrs) / 2)) * EPSILON,
  }),
];
