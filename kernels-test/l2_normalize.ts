import { l2Normalize, l2NormalizeBackward } from '../src/ops/l2_normalize.js';
import { EPSILON, lostOfSquares, opTest, type Random } from './declare.js';

const cases = [
  { shape: [1, 1], eps: 1e-6 },
  { shape: [7, 7], eps: 1e-6 },
  { shape: [65, 256], eps: 1e-6 },
  { shape: [37, 197], eps: 1e-6 },
];

/** Every second row is shorter than the eps of 0.5. */
const shortRows = (random: Random): number[] =>
  Array.from({ length: 6 * 12 }, (_, i) => (Math.floor(i / 12) % 2 ? 0.01 : 1) * random.normal());
const shortCase = { shape: [6, 12], eps: 0.5 };

/** Norms on both sides of every eps used here. */
const norms = (random: Random): number[] => Array.from({ length: 65 }, (_, i) => (i % 3 ? 2 : 1e-7) + random.uniform());

export const l2NormalizeTests = [
  opTest({
    op: l2Normalize,
    reference({ inputs: [x], specs: [spec], attrs: { eps } }) {
      const [rows = 0, width = 0] = spec!.shape;
      const norm = new Float64Array(rows);
      x!.forEach((value, i) => {
        norm[Math.floor(i / width)]! += value ** 2;
      });
      norm.forEach((squares, row) => {
        norm[row] = Math.sqrt(squares);
      });
      return [x!.map((value, i) => value / Math.max(norm[Math.floor(i / width)]!, eps)), norm];
    },
    cases: [
      ...cases.map(({ shape, eps }) => ({ inputs: [{ shape }], attrs: { eps } })),
      { inputs: [{ shape: shortCase.shape, fill: shortRows }], attrs: { eps: shortCase.eps } },
      { inputs: [{ shape: [2, 8], fill: () => new Float64Array(16) }], attrs: { eps: 0.5 } },
    ],
    // A sum of squares: all of one sign, at most sqrt(W) roundings that count, and what `lostOfSquares` says; elements up to 5 RMS.
    tolerance({ specs: [x] }) {
      const width = x!.shape[1]!;
      return 5 * ((4 + Math.sqrt(width) / 2) * EPSILON + lostOfSquares(width) / 2);
    },
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['rows', 'width'],
      sized: (...shape) => ({ inputs: [{ shape }], attrs: { eps: 1e-6 } }),
      shapesOf: ({ inputs: [x] }) => [x!.shape],
    },
  }),
  opTest({
    op: l2NormalizeBackward,
    reference({ inputs: [y, norm, dy], specs: [spec], attrs: { eps } }) {
      const [rows = 0, width = 0] = spec!.shape;
      const dx = new Float64Array(rows * width);
      for (let row = 0; row < rows; row++) {
        const length = norm![row]!;
        let along = 0;
        for (let i = row * width; i < (row + 1) * width; i++) along += y![i]! * dy![i]!;
        if (length < eps) along = 0;
        for (let i = row * width; i < (row + 1) * width; i++)
          dx[i] = (dy![i]! - y![i]! * along) / Math.max(length, eps);
      }
      return [dx];
    },
    cases: [...cases, shortCase].map(({ shape, eps }) => ({
      inputs: [
        { shape, fill: 'unit-rows' as const },
        { shape: [shape[0]!], fill: (random: Random) => norms(random).slice(0, shape[0]!) },
        { shape },
      ],
      attrs: { eps },
    })),
    // As forward, of each of the two terms.
    tolerance: ({ specs: [y] }) => 5 * (8 + Math.sqrt(y!.shape[1]!) / 2) * EPSILON,
    // dy and its part along y: the fewer the columns, the less is left; of one column nothing.
    terms({ inputs: [y, norm, dy], specs: [spec], attrs: { eps } }) {
      const [rows = 0, width = 0] = spec!.shape;
      const sizes = new Float64Array(rows * width);
      for (let row = 0; row < rows; row++) {
        const length = norm![row]!;
        let along = 0;
        for (let i = row * width; i < (row + 1) * width; i++) along += Math.abs(y![i]! * dy![i]!);
        if (length < eps) along = 0;
        for (let i = row * width; i < (row + 1) * width; i++)
          sizes[i] = (Math.abs(dy![i]!) + Math.abs(y![i]!) * along) / Math.max(length, eps);
      }
      return [sizes];
    },
  }),
];
