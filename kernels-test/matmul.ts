import { type MatmulAttributes, matmul } from '../src/ops/matmul.js';
import { type Benched, type Case, EPSILON, type OpTest, opTest } from './declare.js';

interface Sizes {
  readonly batch?: number;
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly bias?: boolean;
  readonly sums?: boolean;
}

function sized(sizes: Sizes): Case<MatmulAttributes> {
  const { batch, rows, inner, columns, transA = false, transB = false, bias = false, sums = false } = sizes;
  const front = batch === undefined ? [] : [batch];
  const a = { shape: [...front, ...(transA ? [inner, rows] : [rows, inner])] };
  const b = { shape: [...front, ...(transB ? [columns, inner] : [inner, columns])] };
  return { inputs: bias ? [a, b, { shape: [columns] }] : [a, b], attrs: { transA, transB, ...(sums && { sums }) } };
}

/** A bench of products of one form: NT are the linear layers, whose gradients are NN and TN. */
function bench(transA: boolean, transB: boolean): Benched<MatmulAttributes> {
  return {
    dims: ['rows', 'inner', 'columns', 'batch?'],
    growing: transA ? 1 : 0,
    form: `${transA ? 'T' : 'N'}${transB ? 'T' : 'N'}`,
    sized: (rows, inner, columns, batch = 1) =>
      sized({ rows, inner, columns, transA, transB, bias: !transA && transB, ...(batch > 1 && { batch }) }),
    shapesOf({ inputs: [a], outputs: [y], attrs }) {
      if (attrs.transA !== transA || attrs.transB !== transB) return [];
      const [rows = 0, columns = 0] = y!.shape.slice(-2);
      const batch = y!.shape.slice(0, -2);
      return [[rows, a!.shape.at(transA ? -2 : -1)!, columns, ...batch]];
    },
  };
}

const declared: Pick<OpTest<MatmulAttributes>, 'op' | 'reference' | 'tolerance' | 'sampledRows'> = {
  op: matmul,
  sampledRows: 16,
  reference({ inputs: [a, b, bias], specs: [specA], outputs: [specY], attrs: { transA, transB, sums }, wanted }) {
    const [rows, columns] = specY!.shape.slice(-2) as [number, number];
    const inner = specA!.shape.at(transA ? -2 : -1)!;
    const y = new Float64Array(specY!.shape.reduce((product, side) => product * side, 1));
    for (let i = 0; i < y.length; i++) {
      if (!wanted(Math.floor(i / columns))) continue;
      const [batch, row, column] = [Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns];
      let sum = bias?.[column] ?? 0;
      for (let k = 0; k < inner; k++) {
        const left = a![batch * rows * inner + (transA ? k * rows + row : row * inner + k)]!;
        const right = b![batch * inner * columns + (transB ? column * inner + k : k * columns + column)]!;
        sum += left * right;
      }
      y[i] = sum;
    }
    if (!sums) return [y];
    const added = new Float64Array(y.length / columns);
    for (let row = 0; row < added.length; row++) {
      const [batch, inside] = [Math.floor(row / rows), row % rows];
      for (let k = 0; k < inner; k++) {
        added[row]! += a![batch * rows * inner + (transA ? k * rows + inside : inside * inner + k)]!;
      }
    }
    return [y, added];
  },
  // Normal factors: y has RMS sqrt(inner). Each of the `terms` additions in a row errs by up to EPSILON of a partial sum
  // of RMS sqrt(k), together sqrt(terms / 2) EPSILON of the RMS; the worst of 10^4 elements is 4 of those, doubled for the
  // rounding of the products. Gradients sum over rows or columns instead of inner.
  tolerance({ specs: [a], outputs: [y] }) {
    return 8 * EPSILON * Math.sqrt(Math.max(...a!.shape, ...y!.shape));
  },
};

/** Every transpose, ragged in every direction, with and without a bias, in a batch, with the inner axis split. */
export const matmulTests = [
  opTest({
    ...declared,
    cases: [
      sized({ rows: 33, inner: 17, columns: 9, transA: true, transB: true }),
      sized({ rows: 197, inner: 49, columns: 65 }),
      sized({ batch: 2, rows: 5, inner: 300, columns: 7, transA: true }),
      sized({ rows: 33, inner: 1409, columns: 9, transA: true }),
      // Four columns are stored at a time, and a has fewer numbers than that.
      sized({ rows: 3, inner: 1, columns: 4 }),
    ],
    gradient: { inputs: [0, 1], outputs: [0] },
  }),
  opTest({
    ...declared,
    cases: [
      sized({ rows: 1, inner: 1, columns: 1, bias: true }),
      sized({ rows: 65, inner: 7, columns: 197, bias: true }),
      sized({ rows: 7, inner: 65, columns: 64, transB: true, bias: true }),
      sized({ batch: 3, rows: 19, inner: 33, columns: 12, transB: true, bias: true }),
      sized({ rows: 9, inner: 700, columns: 33, bias: true }),
    ],
    gradient: { inputs: [0, 1, 2], outputs: [0] },
    bench: bench(false, true),
  }),
  // Sides and inner axes that can be loaded four at a time, in every order in memory, and each of them that cannot.
  opTest({
    ...declared,
    cases: [false, true].flatMap((transA) =>
      [false, true].flatMap((transB) => [
        sized({ rows: 68, inner: 20, columns: 100, transA, transB, bias: true }),
        sized({ rows: 40, inner: 18, columns: 72, transA, transB }),
        sized({ rows: 66, inner: 36, columns: 70, transA, transB }),
      ]),
    ),
  }),
  // Enough tiles for the largest of them, with rows and columns of either order in memory; but for that of 16 lanes, from 1e9
  // products on, which `bench` checks before it times it.
  opTest({
    ...declared,
    cases: [
      { transA: false, transB: false },
      { transA: true, transB: true },
    ].map((attrs) => sized({ rows: 1100, inner: 312, columns: 300, ...attrs })),
    bench: bench(false, false),
  }),
  // With the sums of a's rows, as gradients of weights and biases ask for them: of every order in memory, in a batch, split.
  opTest({
    ...declared,
    cases: [
      ...[false, true].flatMap((transA) => [
        sized({ rows: 68, inner: 20, columns: 100, transA, sums: true }),
        sized({ rows: 7, inner: 65, columns: 9, transA, transB: true, sums: true }),
      ]),
      sized({ batch: 2, rows: 5, inner: 301, columns: 7, transA: true, sums: true }),
      sized({ rows: 1100, inner: 312, columns: 300, transA: true, sums: true }),
      sized({ rows: 64, inner: 2048, columns: 64, transA: true, sums: true }),
    ],
  }),
  opTest({ ...declared, cases: [sized({ rows: 7, inner: 65, columns: 9, transA: true })], bench: bench(true, false) }),
];
