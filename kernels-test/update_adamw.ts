import { DECAYS, type UpdateAdamwAttributes, updateAdamw } from '../src/ops/update_adamw.js';
import { type Case, EPSILON, opTest } from './declare.js';

const uniform = 'uniform' as const;

interface Setting {
  readonly table: readonly number[];
  readonly flag?: number;
  readonly clip?: number;
  readonly step?: number;
  /** Steps of those that were skipped. */
  readonly skipped?: number;
  readonly fill?: () => ArrayLike<number>;
}

const settings: readonly Setting[] = [
  { table: [DECAYS] },
  { table: [0, 0, 1 + DECAYS, 3, 2], clip: 3, step: 10 },
  { table: Array.from({ length: 39 }, (_, i) => (i < 20 ? DECAYS : 1)), clip: 0.5, step: 1000 },
  { table: [DECAYS, 1], clip: 3, step: 3, skipped: 2 },
  { table: [DECAYS, 1], clip: 3, step: 700, skipped: 12 },
  { table: [DECAYS, 1], flag: 77, step: 30_000, skipped: 0 },
  { table: [DECAYS, 1], flag: 77, clip: 3, fill: () => new Float64Array(128).fill(NaN) },
];

function adamwCase({ table, flag = 0, clip = 0, step = 1, skipped, fill }: Setting): Case<UpdateAdamwAttributes> {
  const shape = [64 * table.length];
  return {
    inputs: [
      { shape: [1], dtype: 'u32', fill: () => [flag] },
      { shape },
      fill ? { shape, fill } : { shape },
      { shape },
      { shape, fill: uniform },
      // One tensor whose norm is below any clip and others above.
      { shape: [4], fill: () => [1e-4, 400, 9, 1] },
      { shape: [table.length], dtype: 'u32', fill: () => table },
      ...(skipped === undefined ? [] : [{ shape: [2], dtype: 'u32' as const, fill: () => [5, skipped] }]),
    ],
    attrs: (scalar) => ({
      lr: scalar('lr', 0.01),
      weightDecay: scalar('weight_decay', 0.04),
      correction1: scalar('correction1', 1 - 0.9 ** step),
      correction2: scalar('correction2', 1 - 0.999 ** step),
      ...(skipped !== undefined && { step: scalar('step', step, 'u32') }),
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      clip,
    }),
  };
}

export const updateAdamwTests = [
  opTest({
    op: updateAdamw,
    reference: ({ inputs: [flag, parameters, gradients, moment1, moment2, squares, table, counts], attrs, scalar }) => {
      const { beta1, beta2, eps, clip } = attrs;
      const updates = attrs.step && counts ? scalar(attrs.step) - counts[1]! : null;
      const correction1 = updates === null ? scalar(attrs.correction1) : 1 - beta1 ** updates;
      const correction2 = updates === null ? scalar(attrs.correction2) : 1 - beta2 ** updates;
      let [ofParameters, ofUpdate] = [0, 0];
      parameters!.forEach((p, i) => {
        const entry = table![i >> 6]!;
        let update = 0;
        if (flag![0] === 0) {
          const decay = entry >= DECAYS ? scalar(attrs.weightDecay) : 0;
          const norm = Math.sqrt(squares![entry % DECAYS]!);
          const g = gradients![i]! * (clip > 0 ? Math.min(1, clip / (norm + 1e-6)) : 1);
          const m = beta1 * moment1![i]! + (1 - beta1) * g;
          const v = beta2 * moment2![i]! + (1 - beta2) * g * g;
          const direction = m / correction1 / (Math.sqrt(v / correction2) + eps);
          update = scalar(attrs.lr) * (decay * p + direction);
          moment1![i] = m;
          moment2![i] = v;
          parameters![i] = p - update;
        }
        ofParameters += parameters![i]! ** 2;
        ofUpdate += update ** 2;
      });
      return [Float64Array.of(ofParameters, ofUpdate)];
    },
    cases: settings.map(adamwCase),
    bench: {
      dims: ['elements'],
      sized: (n) => adamwCase({ table: Array.from({ length: Math.ceil(n / 64) }, (_, i) => i % 4), clip: 3 }),
      shapesOf: ({ inputs: [, parameters] }) => [parameters!.shape],
    },
    // The moments and the update, with two square roots, two divisions and a reciprocal, take 12 roundings; an element is at most five
    // times the RMS; the sums of squares have terms of one sign.
    tolerance: () => 5 * 12 * EPSILON,
  }),
];
