import { type SelectRowsAttributes, selectRows } from '../src/ops/select_rows.js';
import { stream, threefry2x32 } from '../src/rng.js';
import { type Case, type CaseInput, opTest, type Random } from './declare.js';

interface Draw {
  readonly seed: number;
  readonly stream: number;
  readonly step: number;
}

/** log(u) / w of each candidate: the largest are drawn. */
function keysOf(score: ArrayLike<number>, k: number, draw: Draw): number[] {
  const key = stream(draw.seed, draw.stream, draw.step);
  return Array.from({ length: score.length / k }, (_, i) => {
    const values = Array.from({ length: k }, (_, j) => score[i * k + j]!);
    const mean = values.reduce((sum, value) => sum + value, 0) / k;
    const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / k);
    const weight = 1 / (std / (Math.abs(mean) + 1e-8) + 1e-8);
    const u = ((threefry2x32(key, [i, 0])[0] >>> 8) + 1) / 2 ** 24;
    return Math.log(u) / weight;
  });
}

const order = (keys: readonly number[]): number[] => keys.map((_, i) => i).sort((a, b) => keys[b]! - keys[a]! || a - b);

/** Whether keys that differ are too near for f32 to order: log is good to 2^-21 near 1, and std loses digits. */
function nearTie(keys: readonly number[]): boolean {
  const sorted = order(keys).map((i) => keys[i]!);
  return sorted.some((key, i) => {
    const gap = key - (sorted[i + 1] ?? -Infinity);
    return gap !== 0 && gap < 2e-5 * Math.abs(sorted[i + 1] ?? 0) + 2e-6;
  });
}

const candidates = (rows: number): CaseInput => ({
  shape: [rows],
  dtype: 'u32',
  fill: () => Array.from({ length: rows }, (_, i) => (i * 17 + 3) % 1009),
});

/**
 * Scores of any number of candidates without near ties: their standard deviations, around a mean of 1, put the keys of a
 * decade into a random order with equal steps between logarithms.
 */
function spacedScores(rows: number, k: number, draw: Draw): CaseInput {
  const key = stream(draw.seed, draw.stream, draw.step);
  const pairs = Math.floor(k / 2);
  const fill = (random: Random): Float32Array => {
    const ranks = Array.from({ length: rows }, (_, i) => ({ i, at: random.uniform() })).sort((a, b) => a.at - b.at);
    const values = new Float32Array(rows * k).fill(1);
    ranks.forEach(({ i }, rank) => {
      const size = -Math.log(((threefry2x32(key, [i, 0])[0] >>> 8) + 1) / 2 ** 24);
      const wanted = 10 ** Math.floor(Math.log10(size)) * 9 ** (rank / rows);
      const std = wanted / size;
      for (let j = 0; j < 2 * pairs; j++) values[i * k + j]! += (j % 2 ? 1 : -1) * std * Math.sqrt(k / (2 * pairs));
    });
    return values;
  };
  return { shape: [rows, k], fill };
}

function selectCase(rows: number, k: number, count: number, draw: Draw, alike = 0): Case<SelectRowsAttributes> {
  const score = (random: Random): Float32Array => {
    for (;;) {
      const values = Float32Array.from({ length: rows * k }, () => 0.5 + 0.5 * random.normal());
      // Scores that are all the same: the weight is 1e8, and only these are drawn while there are any.
      for (let i = 0; i < alike; i++) values.fill(0.25, 3 * i * k, (3 * i + 1) * k);
      const keys = keysOf(values, k, draw);
      if (!nearTie(keys.filter((_, i) => alike === 0 || i % 3 !== 0 || i >= 3 * alike))) return values;
    }
  };
  return {
    inputs: [candidates(rows), { shape: [rows, k], fill: score }],
    attrs: (scalar) => ({
      count,
      stream: draw.stream,
      seed: scalar('seed', draw.seed, 'u32'),
      step: scalar('step', draw.step, 'u32'),
    }),
  };
}

export const selectRowsTests = [
  opTest<SelectRowsAttributes>({
    op: selectRows,
    reference({ inputs: [candidates, score], specs, attrs: { count, stream: number, seed, step }, scalar }) {
      const draw = { seed: scalar(seed), stream: number, step: scalar(step) };
      const keys = keysOf(score!, specs[1]?.shape[1] ?? 1, draw);
      return [
        Float64Array.from(
          order(keys)
            .slice(0, count)
            .map((i) => candidates![i]!),
        ),
      ];
    },
    cases: [
      selectCase(1, 2, 1, { seed: 1, stream: 12, step: 1 }),
      selectCase(2, 2, 1, { seed: 2, stream: 12, step: 7 }),
      selectCase(7, 3, 7, { seed: 0xfffffff0, stream: 268, step: 3 }),
      selectCase(65, 8, 32, { seed: 5, stream: 13, step: 100 }),
      selectCase(197, 16, 98, { seed: 6, stream: 13, step: 4 }),
      selectCase(30, 4, 8, { seed: 7, stream: 12, step: 9 }, 8),
    ],
    tolerance: () => 0,
    bench: {
      dims: ['candidates', 'k', 'count?'],
      sized: (rows, k, count = Math.ceil(rows / 2)) => {
        const draw = { seed: 5, stream: 13, step: 100 };
        return { ...selectCase(rows, k, count, draw), inputs: [candidates(rows), spacedScores(rows, k, draw)] };
      },
      shapesOf: ({ inputs: [, score], outputs: [rows] }) => [[...score!.shape, rows!.shape[0]!]],
      also: [[8192, 8]],
    },
  }),
];
