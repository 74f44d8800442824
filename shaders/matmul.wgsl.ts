// matmul: y = op(a) op(b) + bias for each matrix of a batch, op the identity or the transpose.
//
//   a      [batch, rows, inner] or [batch, inner, rows]      element (r, k) at batch a_batch + r a_row + k a_inner
//   b      [batch, inner, columns] or [batch, columns, inner]        b_first + batch b_batch + k b_inner + c b_column
//   bias   [columns], added where `bias_on` is 1; else b is bound, which is never too small
//   y      [splits, batch, rows, columns]: split s holds the sum over k in [s span, (s + 1) span), split 0 the bias
//   sums   [splits, batch, rows], where asked for: the sum of op(a) over k. With a = dy^T that is the gradient of a bias,
//          from numbers that the gradient of the weights has loaded already
//
// Strides and flags are params, so that all shapes and transposes of a model share a pipeline: on a software adapter
// compiling one costs up to a second, the address arithmetic nothing. Every sum runs over k in order: same bits each time.
//
// entry point `subgroup_tile`: one tile by one subgroup, without shared memory. A lane keeps all rows of the tile for its own
// columns in named scalars: both software adapters are bound by load instructions, and so each loaded value meets as many
// others as registers and compile time allow. A lane loads rows lane, lane + lanes, ... of a and broadcasts them. The tile
// goes through an array at the end, because a store written out for each element takes longer to compile than all the rest.
//
// entry point `workgroup_tile`: side x side invocations, a block x block register tile each, slices of a and b in shared memory,
// four rows (columns) a vector. A GPU reads shared memory at a quarter of the rate at which it multiplies and adds, so each
// vector meets as many others as registers allow: 16 multiply-adds a number read with blocks of 8, of which those of a are the
// same for neighbours.
//
// Edges: indices of loads are clamped instead of guarded (a masked branch is executed anyway), stores are guarded.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { elementType } from './lib/each.js';
import { kernel, read, times, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';

const PARAMS = {
  rows: 'u32',
  columns: 'u32',
  inner: 'u32',
  span: 'u32',
  splits: 'u32',
  batches: 'u32',
  a_batch: 'u32',
  a_row: 'u32',
  a_inner: 'u32',
  b_batch: 'u32',
  b_inner: 'u32',
  b_column: 'u32',
  /** Elements of b and y before the first of this product. */
  b_first: 'u32',
  y_first: 'u32',
  bias_on: 'u32',
  /** Tiles of rows, of columns, and parts, in dispatches before this one. */
  first_tile: 'u32',
  first_column_tile: 'u32',
  first_part: 'u32',
} as const;

/** Workgroup (x, y, z) = (tile of columns, tile of rows, batch and split) and its part of the inner axis. */
const PLACE = wgsl`
  let part = params.first_part + workgroup.z;
  let batch = part / params.splits;
  let split = part % params.splits;
  let begin = split * params.span;
  let end = min(params.inner, begin + params.span);
  let sums_batch = (split * params.batches + batch) * params.rows;
  let y_batch = params.y_first + sums_batch * params.columns;
  let biased = params.bias_on != 0u && split == 0u;
`;

/** One store of the sum of row `place` of a tile, among the workgroups that share its rows by the first. */
const storeSum = (place: string, sum: string, rows: number): string =>
  `  if (left == 0u && ${place} < ${rows}u && top + ${place} < params.rows) { sums[sums_batch + top + ${place}] = ${sum}; }`;

/** How an operand is loaded: number by number, or four at a time along the inner axis, or four rows (columns) at a time. */
export type Loads = 'one' | 'inner' | 'side';

/** How the operands and y are stored; bias and sums are f32, and so is every number in between. */
export type MatmulTypes = Readonly<Record<'operands' | 'y', RealType>>;

export interface SubgroupTile {
  readonly lanes: number;
  /** Rows, a multiple of 4, and columns of each lane. */
  readonly rows: number;
  readonly columns: number;
  /**
   * Steps along the inner axis between stores to the accumulators, which both software adapters write to memory under a mask.
   * The span is a multiple of it, and it is one of 4 where an operand is loaded along that axis.
   */
  readonly unroll: number;
  /** `inner` needs strides of 4 n there and 1 along the inner axis, `side` the opposite, and 4 n rows (columns) a lane. */
  readonly a: Loads;
  readonly b: Loads;
  /** Whether y is stored four columns at a time: 4 n columns, in all and of a lane. */
  readonly quads: boolean;
  /** Whether there are `sums`. */
  readonly sums: boolean;
  readonly types: MatmulTypes;
}

/** What a lane keeps of an operand: `slots` rows (columns), in registers of one number or of four. */
interface Side {
  /** Of its binding. */
  readonly element: string;
  /** Slot and lane that hold row r. */
  holder(r: number): { slot: number; lane: number };
  /** The row that slot i of this lane holds. */
  place(i: number): string;
  /** Declares where registers are loaded from. */
  readonly start: string;
  /** Loads the registers of a group of steps and moves on. */
  readonly load: string;
  /** The number of slot i at step u. */
  value(i: number, u: number): string;
}

/** Slots that are neighbours in memory lie in one lane where loads or stores take four of them. */
function side(
  name: 'a' | 'b',
  { lanes, unroll, types }: SubgroupTile,
  {
    slots,
    loads,
    neighbours,
    first,
    size,
    stride,
  }: Record<'first' | 'size' | 'stride', string> & {
    slots: number;
    loads: Loads;
    neighbours: boolean;
  },
): Side {
  const step = `${name}_inner`;
  const along = loads === 'inner';
  const across = loads === 'side';
  const [vectors, steps] = [across ? slots / 4 : slots, along ? unroll / 4 : unroll];
  const place = (i: number): string =>
    neighbours ? `${4 * lanes * Math.floor(i / 4) + (i % 4)}u + 4u * lane` : `${i * lanes}u + lane`;
  const begin = `${name}_start`;
  const start = (i: number): string =>
    across
      ? `(${begin} + min(${first} + ${place(4 * i)}, ${size} - 4u)) / 4u`
      : `(${begin} + min(${first} + ${place(i)}, ${size} - 1u) * ${stride})${along ? ' / 4u' : ''}`;
  const stored = reals(name, loads !== 'one', types.operands);
  const value = (i: number, u: number): string =>
    stored.at(u === 0 ? `${name}_at${i}` : `${name}_at${i} + ${u}u${along ? '' : ` * ${step}`}`);
  return {
    element: stored.element,
    holder: (r) =>
      neighbours
        ? { slot: 4 * Math.floor(r / (4 * lanes)) + (r % 4), lane: Math.floor(r / 4) % lanes }
        : { slot: Math.floor(r / lanes), lane: r % lanes },
    place,
    start: `  let ${step} = params.${step}${across ? ' / 4u' : ''};
  let ${begin} = ${name === 'b' ? 'params.b_first + ' : ''}batch * params.${name}_batch + begin * params.${step};
${times(vectors, (i) => `  var ${name}_at${i} = ${start(i)};`)}`,
    load: `${times(vectors, (i) => times(steps, (u) => `    let ${name}${i}_${u} = ${value(i, u)};`))}
${times(vectors, (i) => `    ${name}_at${i} += ${along ? `${steps}u` : `${unroll}u * ${step}`};`)}`,
    value(i, u) {
      if (along) return `${name}${i}_${Math.floor(u / 4)}.${'xyzw'[u % 4]}`;
      return across ? `${name}${Math.floor(i / 4)}_${u}.${'xyzw'[i % 4]}` : `${name}${i}_${u}`;
    },
  };
}

export function matmulSubgroupTileKernel(variant: SubgroupTile): Kernel {
  const { lanes, rows, columns, unroll, quads, sums, types } = variant;
  const y = reals('y', quads, types.y);
  const swaps = lanes === 4;
  const slots = Math.ceil(rows / lanes);
  const a = side('a', variant, {
    slots,
    loads: variant.a,
    neighbours: variant.a === 'side',
    first: 'top',
    size: 'params.rows',
    stride: 'params.a_row',
  });
  const b = side('b', variant, {
    slots: columns,
    loads: variant.b,
    neighbours: quads,
    first: 'left',
    size: 'params.columns',
    stride: 'params.b_column',
  });
  // With lanes of 4, swaps within the quad: SwiftShader has one instruction for each, and the kernel is 1.4 times as fast.
  // Register i then holds row i ^ lane.
  const fromLane = (i: number, u: number): string => {
    const { slot, lane } = a.holder(i);
    if (!swaps) return `subgroupBroadcast(${a.value(slot, u)}, ${lane}u)`;
    return `${['', 'quadSwapX', 'quadSwapY', 'quadSwapDiagonal'][i % 4]}(${a.value(slot, u)})`;
  };
  const accumulate = (i: number, j: number): string => {
    const sum = `tile[${i * columns + j}]`;
    const products = Array.from({ length: unroll }, (_, u) => ` + r${i}_${u} * ${b.value(j, u)}`);
    return `    ${sum} = ${products.reduce((all, term) => `(${all}${term})`, sum)};`;
  };
  const add = (i: number): string => Array.from({ length: unroll }, (_, u) => ` + ${a.value(i, u)}`).join('');
  const row = swaps ? '(i ^ lane)' : 'i';
  return kernel({
    label: 'matmul.subgroup_tile',
    enable: ['subgroups'],
    bindings: {
      a: read(a.element),
      b: read(b.element),
      bias: read(elementType(quads)),
      y: write(y.element),
      ...(sums && { sums: write('f32') }),
    },
    params: PARAMS,
    code: wgsl`
@compute @workgroup_size(${lanes})
fn subgroup_tile(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
${PLACE}
  let top = (params.first_tile + workgroup.y) * ${rows}u;
  let left = (params.first_column_tile + workgroup.x) * ${lanes * columns}u;
${a.start}
${b.start}
  var tile: array<f32, ${rows * columns}>;
#if ${sums}
${times(slots, (i) => `  var sum${i} = 0.0;`)}
#endif
  for (var k = begin; k < end; k += ${unroll}u) {
${a.load}
${b.load}
#if ${sums}
${times(slots, (i) => `    sum${i} = sum${i}${add(i)};`)}
#endif
${times(
  rows,
  (i) => `${times(unroll, (u) => `    let r${i}_${u} = ${fromLane(i, u)};`)}
${times(columns, (j) => accumulate(i, j))}`,
)}
  }
#if ${sums}
${times(slots, (i) => storeSum(a.place(i), `sum${i}`, rows))}
#endif
#if ${quads}
  for (var j = 0u; j < ${columns}u; j += 4u) {
    let column = left + j * ${lanes}u + 4u * lane;
    if (column < params.columns) {
      let bias_j = select(vec4(0.0), bias[select(0u, column / 4u, biased)], biased);
      for (var i = 0u; i < ${rows}u; i++) {
        let row = top + ${row};
        let at = i * ${columns}u + j;
        let sum = vec4(tile[at], tile[at + 1u], tile[at + 2u], tile[at + 3u]);
        if (row < params.rows) { ${y.put('(y_batch + row * params.columns + column) / 4u', 'sum + bias_j')} }
      }
    }
  }
#else
  for (var j = 0u; j < ${columns}u; j++) {
    let column = left + j * ${lanes}u + lane;
    if (column < params.columns) {
      let bias_j = select(0.0, bias[select(0u, column, biased)], biased);
      for (var i = 0u; i < ${rows}u; i++) {
        let row = top + ${row};
        if (row < params.rows) { ${y.put('y_batch + row * params.columns + column', `tile[i * ${columns}u + j] + bias_j`)} }
      }
    }
  }
#endif
}
`,
  });
}

export interface WorkgroupTile {
  /** Invocations along each axis of a workgroup. */
  readonly side: number;
  /** Rows and columns of an invocation, a multiple of 4. */
  readonly block: number;
  /** Whether a is [inner, rows] and b [columns, inner] in memory: neighbours should load neighbouring addresses. */
  readonly transA: boolean;
  readonly transB: boolean;
  /** Whether there are `sums`. */
  readonly sums: boolean;
  readonly types: MatmulTypes;
}

/** Multiply-adds between tests of the loop: enough to hide it, few enough for software adapters to compile. */
const UNROLLED = 64;

/** Steps along the inner axis whose slices lie in shared memory: 9 KiB at most for both, of 16 that every adapter has. */
const sliceSteps = (tile: number): number => (tile > 64 ? 8 : 16);

const FOUR = [0, 1, 2, 3] as const;

export function matmulWorkgroupTileKernel(variant: WorkgroupTile): Kernel {
  const { side, block, transA, transB, sums, types } = variant;
  const [a, b, y] = [reals('a', false, types.operands), reals('b', false, types.operands), reals('y', false, types.y)];
  const tile = workgroupTileSide(variant);
  const steps = sliceSteps(tile);
  const unroll = Math.max(1, UNROLLED / block ** 2);
  const vectors = block / 4;
  // A vector more keeps stores of a column of the slice out of one memory bank.
  const pitch = tile / 4 + 1;
  /** Rows (columns) `first` + 4 quad ... + 3 of one step for each invocation, neighbours in memory by neighbours. */
  const fill = (name: 'a' | 'b', alongInner: boolean, first: string, count: string, stride: string): string => wgsl`
    for (var i = index; i < ${(steps * tile) / 4}u; i += ${side * side}u) {
      let step_of = i ${alongInner ? '%' : '/'} ${alongInner ? steps : tile / 4}u;
      let quad = i ${alongInner ? '/' : '%'} ${alongInner ? steps : tile / 4}u;
      let start = ${name}_start + min(k0 + step_of, end - 1u) * params.${name}_inner;
      let four = vec4(
${FOUR.map((e) => `        ${{ a, b }[name].at(`start + min(${first} + 4u * quad + ${e}u, ${count} - 1u) * ${stride}`)},`).join('\n')}
      );
      // Steps beyond the end are zero themselves: 0 * NaN is not.
      ${name}_slice[step_of * ${pitch}u + quad] = select(vec4(0.0), four, k0 + step_of < end);
    }`;
  const row = (i: number): string => `4u * (local.y + ${Math.floor(i / 4) * side}u) + ${i % 4}u`;
  const put = (i: number, j: number, e: number): string =>
    y.put(`y_batch + row${i} * params.columns + column`, `y${i}_${j}.${'xyzw'[e]} + bias_column`);
  return kernel({
    label: 'matmul.workgroup_tile',
    bindings: {
      a: read(a.element),
      b: read(b.element),
      bias: read('f32'),
      y: write(y.element),
      ...(sums && { sums: write('f32') }),
    },
    params: PARAMS,
    code: wgsl`
var<workgroup> a_slice: array<vec4<f32>, ${steps * pitch}>;
var<workgroup> b_slice: array<vec4<f32>, ${steps * pitch}>;

@compute @workgroup_size(${side}, ${side})
fn workgroup_tile(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>, @builtin(local_invocation_index) index: u32) {
${PLACE}
  let top = (params.first_tile + workgroup.y) * ${tile}u;
  let left = (params.first_column_tile + workgroup.x) * ${tile}u;
  let a_start = batch * params.a_batch;
  let b_start = params.b_first + batch * params.b_batch;
${times(block, (i) => times(vectors, (j) => `  var y${i}_${j} = vec4(0.0);`))}
#if ${sums}
${times(vectors, (i) => `  var sum${i} = vec4(0.0);`)}
#endif
  for (var k0 = begin; k0 < end; k0 += ${steps}u) {
${fill('a', !transA, 'top', 'params.rows', 'params.a_row')}
${fill('b', transB, 'left', 'params.columns', 'params.b_column')}
    workgroupBarrier();
    let steps = min(${steps}u, end - k0);
    for (var k = 0u; k < steps; k += ${unroll}u) {
${times(unroll, (u) => {
  const at = (axis: 'x' | 'y', i: number): string => `(k + ${u}u) * ${pitch}u + local.${axis} + ${i * side}u`;
  return `${times(vectors, (i) => `      let a${i}_${u} = a_slice[${at('y', i)}];`)}
${times(vectors, (j) => `      let b${j}_${u} = b_slice[${at('x', j)}];`)}
${times(block, (i) =>
  times(vectors, (j) => `      y${i}_${j} += a${Math.floor(i / 4)}_${u}.${'xyzw'[i % 4]} * b${j}_${u};`),
)}
${sums ? times(vectors, (i) => `      sum${i} += a${i}_${u};`) : ''}`;
})}
    }
    workgroupBarrier();
  }
#if ${sums}
  if (local.x == 0u) {
${times(block, (i) => storeSum(row(i), `sum${Math.floor(i / 4)}.${'xyzw'[i % 4]}`, tile))}
  }
#endif
${times(block, (i) => `  let row${i} = top + ${row(i)};`)}
${times(vectors, (j) =>
  times(
    4,
    (e) => `  {
    let column = left + 4u * (local.x + ${j * side}u) + ${e}u;
    if (column >= params.columns) { return; }
    let bias_column = select(0.0, bias[select(0u, column, biased)], biased);
${times(block, (i) => `    if (row${i} < params.rows) { ${put(i, j, e)} }`)}
  }`,
  ),
)}
}
`,
  });
}

/** Rows and columns of y that a workgroup of `workgroup_tile` computes. */
export const workgroupTileSide = ({ side, block }: Pick<WorkgroupTile, 'side' | 'block'>): number => side * block;
