import { support } from '../src/ops/support.js';
import { EPSILON, opTest, type Random } from './declare.js';

function supportCase(
  memory: number,
  sops: number,
  neighbours: number,
  depth: number,
  contributions: 'soft' | 'one-hot',
) {
  const rows = (count: number) => (random: Random) => Array.from({ length: count }, () => random.below(memory));
  const found = [
    { shape: [sops, neighbours], dtype: 'u32' as const, fill: rows(sops * neighbours) },
    // Normal scores: below 1 / K, above 1 and between.
    { shape: [sops, neighbours] },
  ];
  const given = [{ shape: [memory, depth] }, { shape: [sops], dtype: 'u32' as const, fill: rows(sops) }];
  return { inputs: neighbours > 0 ? [...given, ...found] : given, attrs: { contributions, smoothing: 0.1 } };
}

export const supportTests = [
  opTest({
    op: support,
    reference({ inputs: [memory, anchors, index, score], specs, attrs: { contributions, smoothing } }) {
      const depth = specs[0]!.shape[1]!;
      const sops = anchors!.length;
      const rows: number[] = [];
      const shares: number[] = [];
      anchors!.forEach((anchor, i) => {
        rows.push(anchor);
        shares.push(1 - smoothing);
        const k = (index?.length ?? 0) / sops;
        for (let n = i * k; n < (i + 1) * k; n++) {
          rows.push(index![n]!);
          shares.push(contributions === 'soft' ? score![n]! : 1 - smoothing);
        }
      });
      const gathered = new Float64Array(rows.length * depth);
      rows.forEach((row, j) => {
        gathered.set(memory!.subarray(row * depth, (row + 1) * depth), j * depth);
      });
      return [gathered, Float64Array.from(shares, (share) => Math.min(1, Math.max(1 / sops, share)))];
    },
    cases: [
      supportCase(1, 1, 0, 1, 'soft'),
      supportCase(50, 7, 4, 64, 'soft'),
      supportCase(50, 7, 3, 65, 'one-hot'),
      supportCase(65, 33, 1, 12, 'one-hot'),
      supportCase(65, 13, 16, 7, 'soft'),
    ],
    // Copies; 1 - smoothing and 1 / K are rounded once, the RMS of s is at least 1 / K.
    tolerance: ({ specs: [, anchors] }) => EPSILON * anchors!.shape[0]!,
    bench: {
      dims: ['sops', 'neighbours', 'width', 'memory?'],
      sized: (sops, neighbours, width, memory = 16 * sops) => supportCase(memory, sops, neighbours, width, 'soft'),
      shapesOf: ({ inputs: [memory, anchors, index] }) => [
        [anchors!.shape[0]!, index?.shape[1] ?? 0, memory!.shape[1]!, memory!.shape[0]!],
      ],
    },
  }),
];
