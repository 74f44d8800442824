import {
  type MatmulTypes,
  matmulSubgroupTileKernel,
  matmulWorkgroupTileKernel,
  type SubgroupTile,
  workgroupTileSide,
} from '../../shaders/matmul.wgsl.js';
import type { Target } from '../gpu/target.js';
import type { Graph, Node } from '../graph/graph.js';
import type { Kernel } from '../graph/kernel.js';
import {
  type Attributes,
  defineOp,
  GraphError,
  input,
  type Launch,
  type Operand,
  output,
  scratch,
} from '../graph/op.js';
import {
  elements,
  f32,
  type RealType,
  realType,
  type Spec,
  sameShape,
  showSpec,
  type Tensor,
} from '../graph/tensor.js';
import { costsOf } from './adapters.js';
import { columnSum, columnSumLaunch } from './column_sum.js';
import { dispatchBlocks } from './dispatches.js';

/** Which operands are stored transposed, and what is wanted besides y. */
export type MatmulAttributes = Attributes & {
  readonly transA: boolean;
  readonly transB: boolean;
  /** A second output, the sums of the rows of op(a). */
  readonly sums?: boolean;
  /** How y is stored, as a and b where not said. */
  readonly dtype?: RealType;
};

/** Sizes of a product: y [batch, rows, columns] = op(a) [batch, rows, inner] op(b) [batch, inner, columns]. */
export interface Product {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly sums: boolean;
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly types: MatmulTypes;
}

/** How a product is computed: a tile of y for each workgroup, and the inner axis in `splits` parts. */
export interface Tiling {
  /** Writes the kernel: some thousand lines, so only of the tiling that was chosen. */
  readonly kernel: (y: RealType) => Kernel;
  readonly tileRows: number;
  readonly tileColumns: number;
  readonly splits: number;
  /** Length of a part: a multiple of the steps that the kernel takes at a time. */
  readonly span: number;
}

/**
 * y = op(a) op(b) + bias; op is the transpose where transA, transB say so.
 *
 * Inputs: a [M, K] ([K, M] with transA); b [K, N] ([N, K] with transB); optionally bias [N]. Outputs: y [M, N]; with `sums`
 * also the sums of op(a) over K, [M], which have no gradient: derivatives ask for them, since the gradient of a bias is one.
 * a, b, y and the sums may all have one more axis in front: a batch of independent products, with the same bias.
 * a and b are stored alike. In f16 b stands for a copy of weights: its gradient, a sum over all rows, is f32, as sums are.
 */
export const matmul = defineOp<MatmulAttributes>({
  name: 'matmul',
  halves: [0, 1],
  infer([a, b, bias], attrs) {
    if (
      !a ||
      !b ||
      a.shape.length !== b.shape.length ||
      a.shape.length < 2 ||
      a.shape.length > 3 ||
      a.dtype !== b.dtype
    )
      throw disagree([a, b], attrs);
    const { batch, rows, columns } = product(a, b, attrs);
    const [innerB, batchB] = [b.shape.at(attrs.transB ? -1 : -2), elements({ shape: b.shape.slice(0, -2) })];
    if (innerB !== a.shape.at(attrs.transA ? -2 : -1) || batchB !== batch) throw disagree([a, b], attrs);
    if (bias && !sameShape(bias.shape, [columns])) throw disagree([a, b, bias], attrs);
    const y = { shape: [...a.shape.slice(0, -2), rows, columns], dtype: attrs.dtype ?? realType(a) };
    return attrs.sums ? [y, f32(...y.shape.slice(0, -1))] : [y];
  },
  variants: ({ inputs: [a, b], attrs, target }) => tilings(product(a, b, attrs), target).map(tilingName),
  scratch({ inputs: [a, b], attrs, target, variant }) {
    const sizes = product(a, b, attrs);
    const { splits } = chooseTiling(sizes, target, variant);
    const { batch, rows, columns, sums } = sizes;
    if (splits === 1) return [];
    return [f32(splits, batch, rows, columns), ...(sums ? [f32(splits, batch, rows)] : [])];
  },
  launches({ inputs: [a, b, bias], attrs, target, variant }) {
    const sizes = product(a, b, attrs);
    return matmulLaunches(sizes, chooseTiling(sizes, target, variant), bias !== undefined, target);
  },
  derivative(graph, node, [dy], needs) {
    if (!dy) return [null, null, null];
    const da = needs[0] ? gradientA(graph, node, dy) : null;
    // The gradient of a stored transpose reads dy^T, whose sums are the gradient of the bias.
    if (needs[1] && needs[2] && node.attrs.transB && dy.shape.length === 2) {
      const [db, dbias] = gradientB(graph, node, dy, true);
      return [da, db ?? null, dbias ?? null];
    }
    return [
      da,
      needs[1] ? (gradientB(graph, node, dy, false)[0] ?? null) : null,
      needs[2] ? graph.one(columnSum, [dy], {}) : null,
    ];
  },
  cost([a], [y], { transA, sums }) {
    const inner = a?.shape.at(transA ? -2 : -1) ?? 0;
    return { flops: 2 * inner * elements(y) + (sums ? elements(a) : 0) };
  },
});

/** d(op(a)) = dy op(b)^T; where a is stored transposed, the transpose of that: op(b) dy^T. */
function gradientA(
  graph: Graph,
  { inputs: [, b], attrs: { transA, transB } }: Node<MatmulAttributes>,
  dy: Tensor,
): Tensor {
  if (!b) throw new GraphError('matmul', 'has lost an input');
  return transA
    ? graph.one(matmul, [b, dy], { transA: transB, transB: true })
    : graph.one(matmul, [dy, b], { transA: false, transB: !transB });
}

/** d(op(b)) = op(a)^T dy; where b is stored transposed, the transpose of that: dy^T op(a). */
function gradientB(
  graph: Graph,
  { inputs: [a], attrs: { transA, transB } }: Node<MatmulAttributes>,
  dy: Tensor,
  sums: boolean,
): readonly Tensor[] {
  if (!a) throw new GraphError('matmul', 'has lost an input');
  const asked = { ...(sums && { sums }), ...(a.dtype === 'f16' && { dtype: 'f32' as const }) };
  return transB
    ? graph.add(matmul, [dy, a], { transA: true, transB: transA, ...asked })
    : graph.add(matmul, [a, dy], { transA: !transA, transB: false, ...asked });
}

/** The launches of a product: tiles, then the sum over the splits where there is more than one. */
function matmulLaunches(sizes: Product, tiling: Tiling, biased: boolean, target: Target): Launch[] {
  const { batch, rows, columns, sums, types } = sizes;
  const { splits } = tiling;
  const result = (index: number): Operand => (splits > 1 ? scratch(index) : output(index));
  // Where a kernel stores four columns at a time, b is large enough to be bound as such numbers; a may not be.
  const operands = { a: input(0), b: input(1), bias: input(biased ? 2 : 1), y: result(0) };
  const products = productLaunches(
    { ...sizes, operands: { ...operands, ...(sums && { sums: result(1) }) }, biased },
    tiling,
    target,
  );
  if (splits === 1) return products;
  const sizesOfResults = [batch * rows * columns, ...(sums ? [batch * rows] : [])];
  const additions = sizesOfResults.map((size, i) =>
    columnSumLaunch(scratch(i), output(i), splits, size, splits, { to: i === 0 ? types.y : 'f32' }),
  );
  return [...products, ...additions];
}

/** A product and where it is computed: what an op binds to `a`, `b`, `bias` (b, unless `biased`), `y` and `sums`. */
export interface PlacedProduct extends Product {
  readonly operands: Launch['bindings'];
  readonly biased?: boolean;
  /** Elements from one row of a to the next, where these are not neighbours. */
  readonly rowStride?: number;
  /** Elements of b and y before those of this product. */
  readonly firstB?: number;
  readonly firstY?: number;
}

/** The launches that leave the parts of a product, [splits, batch, rows, columns], in `y`; of several in f32. */
export function productLaunches(placed: PlacedProduct, tiling: Tiling, target: Target): Launch[] {
  const { batch, rows, columns, inner, transA, transB, types, operands, biased, rowStride, firstB, firstY } = placed;
  const { tileRows, tileColumns, splits, span } = tiling;
  const kernel = tiling.kernel(splits > 1 ? 'f32' : types.y);
  // One row of tiles may be too much, or one tile: of the gradient of weights, whose inner axis is all rows of a batch.
  const tiles = [Math.ceil(rows / tileRows), Math.ceil(columns / tileColumns), batch * splits];
  const blocks = dispatchBlocks(target, tiles, 2 * batch * rows * columns * inner);
  return blocks.map(({ first: [tile = 0, columnTile = 0, part = 0], count: [y = 1, x = 1, z = 1], flops }) => ({
    kernel,
    bindings: operands,
    params: {
      rows,
      columns,
      inner,
      span,
      splits,
      batches: batch,
      a_batch: rows * inner,
      a_row: transA ? 1 : (rowStride ?? inner),
      a_inner: transA ? rows : 1,
      b_batch: inner * columns,
      b_inner: transB ? 1 : columns,
      b_column: transB ? inner : 1,
      b_first: firstB ?? 0,
      y_first: firstY ?? 0,
      bias_on: biased ? 1 : 0,
      first_tile: tile,
      first_column_tile: columnTile,
      first_part: part,
    },
    workgroups: [x, y, z],
    flops,
  }));
}

/** What a tile costs: time in ns that one workgroup spends on a step along the inner axis and on its end. */
interface Candidate {
  readonly kernel: (y: RealType) => Kernel;
  /** Steps along the inner axis that the kernel takes at a time. */
  readonly unroll: number;
  readonly tileRows: number;
  readonly tileColumns: number;
  readonly step: number;
  readonly store: number;
}

/** Largest number of parts of the inner axis, and the shortest part worth a workgroup. */
const MAX_SPLITS = 64;
const MIN_SPAN = 32;

/** The tiling of a variant; of the first where none is named. In at most `parts` parts. */
export function chooseTiling(sizes: Product, target: Target, variant?: string, parts = MAX_SPLITS): Tiling {
  const all = tilings(sizes, target, parts);
  const found = all.find((tiling) => tilingName(tiling) === variant) ?? all[0];
  if (found === undefined) throw new GraphError('matmul', `no tiling for ${target.name}`);
  return found;
}

/** `32 x 64 in 2 parts`: a tile, and how the inner axis is split. */
const tilingName = ({ tileRows, tileColumns, splits }: Tiling): string =>
  `${tileRows} x ${tileColumns}${splits > 1 ? ` in ${splits} parts` : ''}`;

/**
 * The best tiling of each tile, by estimated time, least first: rounds of workgroups, each `inner` steps and one end;
 * splitting the inner axis fills the adapter where the tiles are too few (weight gradients), and costs a launch that adds
 * the parts.
 *
 * Few tiles to choose from, so that a model compiles few pipelines for all its products.
 */
function tilings(sizes: Product, target: Target, parts = MAX_SPLITS): Tiling[] {
  const { batch, rows, columns, inner } = sizes;
  const { load, launch, cache, miss, products: busy } = costsOf(target);
  const timed = candidates(sizes, target).map(({ kernel, unroll, tileRows, tileColumns, step, store }) => {
    const tiles = Math.ceil(rows / tileRows) * Math.ceil(columns / tileColumns) * batch;
    let best: { tiling: Tiling; time: number } | undefined;
    for (let wanted = 1; wanted <= Math.min(parts, Math.max(1, inner / MIN_SPAN)); wanted++) {
      const span = unroll * Math.ceil(inner / unroll / wanted);
      const splits = Math.ceil(inner / span);
      // The parts lie in one binding until they are added.
      if (splits > 1 && 4 * splits * batch * rows * columns > target.maxBindingBytes) break;
      const addition = launch + (((splits + 1) * batch * rows * columns) / (target.subgroupSize || 32) / busy) * load;
      // Tiles of a row of them share one of a and go through all of b: what does not stay in the cache is fetched again and again.
      const far = 4 * span * (tileRows + columns) > cache ? 4 * (tileRows + tileColumns) * miss : 0;
      const time = Math.ceil((tiles * splits) / busy) * (span * (step + far) + store) + (splits > 1 ? addition : 0);
      if (best === undefined || time < best.time)
        best = { tiling: { kernel, tileRows, tileColumns, splits, span }, time };
    }
    return best;
  });
  return timed
    .flatMap((best) => best ?? [])
    .sort((a, b) => a.time - b.time)
    .map(({ tiling }) => tiling);
}

function candidates(sizes: Product, target: Target): Candidate[] {
  const { load, broadcast, multiply, registers } = costsOf(target);
  const lanes = target.subgroupSize;
  const { transA, transB, sums, types, batch, rows: m, columns: n, inner } = sizes;
  if (target.kind === 'gpu' || lanes === 0) {
    return WORKGROUP_TILES.map(({ side, block }) => {
      const tile = workgroupTileSide({ side, block });
      const kernel = (y: RealType): Kernel =>
        matmulWorkgroupTileKernel({ side, block, transA, transB, sums, types: { ...types, y } });
      // Of an invocation: a vector of four from shared memory is a load, as is a number from elsewhere.
      const spilled = Math.max(0, block ** 2 + 2 * block - registers);
      const loads = block / 2 + (2 * tile) / side ** 2 + 2 * spilled;
      const share = (side / 16) ** 2;
      return {
        kernel,
        unroll: 1,
        tileRows: tile,
        tileColumns: tile,
        step: share * (loads * load + block ** 2 * multiply),
        store: share * block ** 2 * load,
      };
    });
  }
  const products = batch * m * n * inner;
  return subgroupTiles(lanes, products).map(([rows, columns, wanted]) => {
    const unroll = inner % wanted === 0 ? wanted : inner % 4 === 0 ? 4 : 1;
    return {
      kernel: (y) =>
        matmulSubgroupTileKernel({
          lanes,
          rows,
          columns,
          sums,
          unroll,
          types: { ...types, y },
          ...chooseLoads(sizes, target, rows),
        }),
      unroll,
      tileRows: rows,
      tileColumns: columns * lanes,
      step: (Math.ceil(rows / lanes) + columns) * load + rows * broadcast + rows * columns * multiply,
      store: rows * columns * load,
    };
  });
}

/** Tiles of a GPU's workgroup, 128, 64 and 32 rows and columns; the last takes a quarter of the invocations. */
const WORKGROUP_TILES = [
  { side: 16, block: 8 },
  { side: 16, block: 4 },
  { side: 8, block: 4 },
] as const;

/**
 * Tiles of a subgroup: rows, columns of a lane, steps at a time. What takes long to compile is for products that repay it,
 * of which a step of a model of that size has dozens.
 *
 * On eight lanes, 64 rows take 2.5 s beside 1 and save a seventh of the time. On sixteen, whose loads cost more and whose
 * products half, 64 rows of four columns are as fast and quick to compile; eight steps between stores take 6.5 s beside
 * 1.1 and save an eleventh.
 */
function subgroupTiles(lanes: number, products: number): (readonly [rows: number, columns: number, unroll: number])[] {
  const large = lanes === 16 ? { from: 1e9, tile: [64, 8, 8] as const } : { from: 1e8, tile: [64, 8, 4] as const };
  const middle = lanes === 16 ? ([64, 4, 4] as const) : ([32, 8, 4] as const);
  return [...(products > large.from ? [large.tile] : []), middle, [8, 4, 4]];
}

/**
 * Loads of a subgroup tile. Lavapipe spends 18 instructions on a number that it loads alone, 13 on one of four, beside 5 on a
 * multiply-add, 3 where four of them share a store. SwiftShader gains from the latter only, and needs no pipeline for each layout.
 */
function chooseLoads(
  { transA, transB, rows: m, columns: n, inner }: Product,
  { kind, subgroupSize: lanes }: Target,
  rows: number,
): Pick<SubgroupTile, 'a' | 'b' | 'quads'> {
  if (kind !== 'lavapipe') return { a: 'one', b: 'one', quads: false };
  const along = inner % 4 === 0 ? 'inner' : 'one';
  const quads = n % 4 === 0;
  const a = transA ? (m % 4 === 0 && rows % (4 * lanes) === 0 ? 'side' : 'one') : along;
  const b = transB ? along : quads ? 'side' : 'one';
  return { a, b, quads };
}

function product(a: Spec | undefined, b: Spec | undefined, attrs: MatmulAttributes): Product {
  const side = (spec: Spec | undefined, axis: -1 | -2): number => spec?.shape.at(axis) ?? 0;
  return {
    transA: attrs.transA,
    transB: attrs.transB,
    sums: attrs.sums === true,
    batch: elements({ shape: a?.shape.slice(0, -2) ?? [] }),
    rows: side(a, attrs.transA ? -1 : -2),
    columns: side(b, attrs.transB ? -2 : -1),
    inner: side(a, attrs.transA ? -2 : -1),
    types: { operands: realType(a), y: attrs.dtype ?? realType(a) },
  };
}

function disagree(specs: readonly (Spec | undefined)[], { transA, transB }: MatmulAttributes): GraphError {
  const shapes = specs.map((spec, i) => `${showSpec(spec)}${[transA, transB][i] ? '^T' : ''}`);
  return new GraphError(
    'matmul',
    `cannot multiply ${shapes.slice(0, 2).join(' by ')}${shapes[2] ? ` and add ${shapes[2]}` : ''}`,
  );
}
