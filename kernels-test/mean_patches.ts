import { meanPatches, meanPatchesBackward } from '../src/ops/mean_patches.js';
import { totalRows, totalSequences } from '../src/ops/segments.js';
import { EPSILON, opTest } from './declare.js';
import { rowsOf } from './sequences.js';

const cases = [
  { width: 1, segments: [{ count: 1, length: 2 }] },
  { width: 7, segments: [{ count: 3, length: 5 }, { count: 2, length: 3 }] }, // biome-ignore format: one line a case
  { width: 64, segments: [{ count: 4, length: 50 }, { count: 8, length: 17 }] }, // biome-ignore format: one line a case
  { width: 12, segments: [{ count: 2, length: 197 }] },
];

export const meanPatchesTests = [
  opTest({
    op: meanPatches,
    reference({ inputs: [tokens], specs: [spec], attrs: { segments } }) {
      const width = spec!.shape[1]!;
      const mean = new Float64Array(totalSequences(segments) * width);
      const lengths = segments.flatMap(({ count, length }) => Array.from({ length: count }, () => length));
      rowsOf(segments).forEach(({ sequence, place }, row) => {
        if (place === 0) return;
        for (let i = 0; i < width; i++)
          mean[sequence * width + i]! += tokens![row * width + i]! / (lengths[sequence]! - 1);
      });
      return [mean];
    },
    cases: cases.map(({ width, segments }) => ({
      inputs: [{ shape: [totalRows(segments), width] }],
      attrs: { segments },
    })),
    // A sum in series; its roundings add up like sqrt of the number of terms, and it has elements up to 5 RMS.
    tolerance: ({ attrs: { segments } }) =>
      5 * (2 + Math.sqrt(Math.max(...segments.map(({ length }) => length)))) * EPSILON,
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['sequences', 'length', 'width'],
      sized: (count, length, width) => ({
        inputs: [{ shape: [count * length, width] }],
        attrs: { segments: [{ count, length }] },
      }),
      shapesOf: ({ inputs: [tokens], attrs: { segments } }) =>
        segments.map(({ count, length }) => [count, length, tokens!.shape[1]!]),
      also: [[32, 197, 384]],
    },
  }),
  opTest({
    op: meanPatchesBackward,
    reference({ inputs: [dmean], specs: [spec], attrs: { segments } }) {
      const width = spec!.shape[1]!;
      const lengths = segments.flatMap(({ count, length }) => Array.from({ length: count }, () => length));
      const rows = rowsOf(segments);
      return [
        Float64Array.from({ length: rows.length * width }, (_, i) => {
          const { sequence, place } = rows[Math.floor(i / width)]!;
          return place === 0 ? 0 : dmean![sequence * width + (i % width)]! / (lengths[sequence]! - 1);
        }),
      ];
    },
    cases: cases.map(({ width, segments }) => ({
      inputs: [{ shape: [totalSequences(segments), width] }],
      attrs: { segments },
    })),
    // A reciprocal and a product, of elements up to 5 RMS.
    tolerance: () => 5 * 4 * EPSILON,
  }),
];
