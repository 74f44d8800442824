import { support } from '../src/ops/support.js';
import { type Case, EPSILON, opTest, type Random } from './declare.js';

type Attrs = { readonly contributions: 'soft' | 'one-hot'; readonly smoothing: number };

/** Different rows as anchors; any rows as neighbours, with scores from -0.5 to 1. */
function supportCase(n: number, width: number, anchors: number, k: number, attrs: Attrs): Case<Attrs> {
  const below = (count: number, bound: number) => (random: Random) =>
    Array.from({ length: count }, () => random.below(bound));
  const scores = (random: Random) => Array.from({ length: anchors * k }, () => 1.5 * random.uniform() - 0.5);
  const neighbours = [
    { shape: [anchors, k], dtype: 'u32' as const, fill: below(anchors * k, n) },
    { shape: [anchors, k], fill: scores },
  ];
  return {
    inputs: [
      { shape: [n, width], fill: 'unit-rows' },
      { shape: [anchors], dtype: 'u32', fill: () => Array.from({ length: anchors }, (_, i) => (i * 7) % n) },
      ...(k > 0 ? neighbours : []),
    ],
    attrs,
  };
}

export const supportTests = [
  opTest<Attrs>({
    op: support,
    reference({ inputs: [memory, anchors, index, score], specs, attrs: { contributions, smoothing } }) {
      const [, width = 0] = specs[0]!.shape;
      const k = specs[2]?.shape[1] ?? 0;
      const rows: number[] = [];
      const shares: number[] = [];
      anchors!.forEach((anchor, i) => {
        for (let member = 0; member <= k; member++) {
          const place = i * k + member - 1;
          const from = member === 0 ? anchor : index![place]!;
          rows.push(...memory!.subarray(from * width, (from + 1) * width));
          const share = member === 0 || contributions === 'one-hot' ? 1 - smoothing : score![place]!;
          shares.push(Math.min(1, Math.max(1 / anchors!.length, share)));
        }
      });
      return [Float64Array.from(rows), Float64Array.from(shares)];
    },
    cases: [
      supportCase(5, 3, 2, 0, { contributions: 'soft', smoothing: 0.1 }),
      supportCase(13, 7, 5, 4, { contributions: 'soft', smoothing: 0.1 }),
      supportCase(197, 65, 64, 1, { contributions: 'one-hot', smoothing: 0.2 }),
      supportCase(65, 64, 65, 8, { contributions: 'soft', smoothing: 0 }),
    ],
    // Copies; a contribution is rounded once.
    tolerance: () => 2 * EPSILON,
  }),
];
