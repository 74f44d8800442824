import type { NoAttributes } from '../src/graph/op.js';
import { elements } from '../src/graph/tensor.js';
import { updateLossScale, updateLossScaleGradients } from '../src/ops/update_loss_scale.js';
import { type Case, type CaseInput, EPSILON, opTest } from './declare.js';

const holding = (dtype: 'f32' | 'u32', ...values: number[]): CaseInput => ({
  shape: [values.length],
  dtype,
  fill: () => values,
});

/** Flag, scale and both counts before the step; the scale doubles every third. */
const states = [
  [0, 1024, 0, 5],
  [0, 1024, 2, 5],
  [0, 2 ** 32, 2, 0],
  [1, 1024, 2, 5],
  [2, 1024, 2, 5],
  [9, 3, 1, 0],
  [2, 1.5, 0, 0],
  [2, 1, 1, 7],
] as const;

const gradientCase = (n: number, scale: number): Case<NoAttributes> => ({
  inputs: [{ shape: [n] }, holding('f32', scale)],
  attrs: {},
});

export const updateLossScaleTests = [
  opTest({
    op: updateLossScale,
    reference({ inputs: [flag, scale, counts], attrs: { interval } }) {
      const raised = flag![0]!;
      if (raised === 0) {
        counts![0]! += 1;
        if (counts![0]! < interval) return [Float64Array.of(0)];
        counts![0] = 0;
        scale![0] = Math.min(2 * scale![0]!, 2 ** 32);
        return [Float64Array.of(0)];
      }
      if (raised === 1 || scale![0]! <= 1) return [Float64Array.of(0)];
      scale![0] = Math.max(1, scale![0]! / 2);
      counts![0] = 0;
      counts![1]! += 1;
      flag![0] = 0;
      return [Float64Array.of(raised)];
    },
    cases: states.map(([flag, scale, good, skipped]) => ({
      inputs: [holding('u32', flag), holding('f32', scale), holding('u32', good, skipped)],
      attrs: { interval: 3 },
    })),
    tolerance: () => 0,
  }),
  opTest({
    op: updateLossScaleGradients,
    reference({ inputs: [gradients, scale] }) {
      gradients!.forEach((value, i) => {
        gradients![i] = value / scale![0]!;
      });
      return [];
    },
    cases: [gradientCase(4, 1), gradientCase(68, 65536), gradientCase(8192, 3)],
    // WGSL divides within 2.5 ULP; elements up to 5 RMS.
    tolerance: () => 5 * 5 * EPSILON,
    bench: {
      dims: ['elements'],
      sized: (n) => gradientCase(n, 65536),
      shapesOf: ({ inputs: [gradients] }) => [[elements(gradients)]],
      also: [[2 ** 22]],
    },
  }),
];
