// matmul: y = op(a) op(b) + bias for each matrix of a batch, op the identity or the transpose.
//
//   a      [batch, rows, inner] or [batch, inner, rows]      element (r, k) at batch a_batch + r a_row + k a_inner
//   b      [batch, inner, columns] or [batch, columns, inner]                               k b_inner + c b_column
//   bias   [columns], added where `bias_on` is 1; else anything may be bound
//   y      [splits, batch, rows, columns]: split s holds the sum over k in [s span, (s + 1) span), split 0 the bias
//
// Strides and flags are params, so that all shapes and transposes of a model share a pipeline: on a software adapter
// compiling one costs up to a second, the address arithmetic nothing. Every sum runs over k in order: same bits each time.
//
// entry point `subgroup_tile`: one tile by one subgroup, without shared memory. A lane keeps all rows of the tile for its own
// columns in named scalars: both software adapters are bound by load instructions, and so each loaded value meets as many
// others as registers and compile time allow. A lane loads rows lane, lane + lanes, ... of a and hands them round. The tile
// goes through an array at the end, because a store written out for each element takes longer to compile than all the rest.
//
// entry point `workgroup_tile`: 16 x 16 invocations, a block x block register tile each, slices of a and b in shared memory.
//
// Edges: indices of loads are clamped instead of guarded (a masked branch is executed anyway), stores are guarded.

import type { Kernel } from '../src/graph/kernel.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

const BINDINGS = { a: read('f32'), b: read('f32'), bias: read('f32'), y: write('f32') };

const PARAMS = {
  rows: 'u32',
  columns: 'u32',
  inner: 'u32',
  span: 'u32',
  splits: 'u32',
  a_batch: 'u32',
  a_row: 'u32',
  a_inner: 'u32',
  b_batch: 'u32',
  b_inner: 'u32',
  b_column: 'u32',
  bias_on: 'u32',
} as const;

/** Workgroup (x, y, z) = (tile of columns, tile of rows, batch and split) and its part of the inner axis. */
const PLACE = wgsl`
  let batch = workgroup.z / params.splits;
  let split = workgroup.z % params.splits;
  let begin = split * params.span;
  let end = min(params.inner, begin + params.span);
  let batches = groups.z / params.splits;
  let y_batch = (split * batches + batch) * params.rows * params.columns;
  let biased = params.bias_on != 0u && split == 0u;
`;

const times = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

export interface SubgroupTile {
  readonly lanes: number;
  /** Rows, a multiple of 4, and columns of each lane. */
  readonly rows: number;
  readonly columns: number;
  /**
   * Steps along the inner axis between stores to the accumulators: 1 where the compiler keeps variables in registers,
   * more on SwiftShader, which writes each `var` to memory under a mask.
   */
  readonly unroll: number;
}

export function subgroupMatmul({ lanes, rows, columns, unroll }: SubgroupTile): Kernel {
  const loads = Math.ceil(rows / lanes);
  const quad = lanes === 4;
  // Step u of a group of steps: beyond the end it loads something valid and counts as zero.
  const load = (buffer: 'a' | 'b', i: number, u: number): string => {
    const at = `${buffer}_at${i}`;
    const value =
      u === 0
        ? `${buffer}[${at}]`
        : `select(0.0, ${buffer}[${at} + select(0u, ${u}u * ${buffer}_inner, in${u})], in${u})`;
    return `    let ${buffer}${i}_${u} = ${value};`;
  };
  // With lanes of 4, swaps within the quad: SwiftShader has one instruction for each, and the kernel is 1.4 times as fast.
  // Register i then holds row i ^ lane.
  const hand = (i: number): string =>
    quad ? (['', 'quadSwapX', 'quadSwapY', 'quadSwapDiagonal'][i % 4] ?? '') : 'subgroupBroadcast';
  const handed = (i: number, u: number): string => {
    const from = `a${Math.floor(i / lanes)}_${u}`;
    return `    let r${i}_${u} = ${hand(i)}(${quad ? from : `${from}, ${i % lanes}u`});`;
  };
  const accumulate = (i: number, j: number): string => {
    const products = Array.from({ length: unroll }, (_, u) => ` + r${i}_${u} * b${j}_${u}`);
    return `    y${i}_${j} = ${products.reduce((sum, term) => `(${sum}${term})`, `y${i}_${j}`)};`;
  };
  return kernel({
    label: 'matmul.subgroup_tile',
    enable: ['subgroups'],
    bindings: BINDINGS,
    params: PARAMS,
    code: wgsl`
@compute @workgroup_size(${lanes})
fn subgroup_tile(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(subgroup_invocation_id) lane: u32) {
${PLACE}
  let top = workgroup.y * ${rows}u;
  let left = workgroup.x * ${lanes * columns}u + lane;
  let a_inner = params.a_inner;
  let b_inner = params.b_inner;
  let a_start = batch * params.a_batch + begin * a_inner;
  let b_start = batch * params.b_batch + begin * b_inner;
${times(loads, (i) => `  var a_at${i} = a_start + min(top + lane + ${i * lanes}u, params.rows - 1u) * params.a_row;`)}
${times(columns, (j) => `  var b_at${j} = b_start + min(left + ${j * lanes}u, params.columns - 1u) * params.b_column;`)}
${times(rows, (i) => times(columns, (j) => `  var y${i}_${j} = 0.0;`))}
  for (var k = begin; k < end; k += ${unroll}u) {
${times(unroll - 1, (u) => `    let in${u + 1} = k + ${u + 1}u < end;`)}
${times(unroll, (u) => times(loads, (i) => load('a', i, u)))}
${times(unroll, (u) => times(columns, (j) => load('b', j, u)))}
${times(loads, (i) => `    a_at${i} += ${unroll}u * a_inner;`)}
${times(columns, (j) => `    b_at${j} += ${unroll}u * b_inner;`)}
${times(
  rows,
  (i) => `${times(unroll, (u) => handed(i, u))}
${times(columns, (j) => accumulate(i, j))}`,
)}
  }
  var tile: array<f32, ${rows * columns}>;
${times(rows, (i) => times(columns, (j) => `  tile[${i * columns + j}] = y${i}_${j};`))}
  for (var j = 0u; j < ${columns}u; j++) {
    let column = left + j * ${lanes}u;
    if (column < params.columns) {
      let bias_j = select(0.0, bias[select(0u, column, biased)], biased);
      for (var i = 0u; i < ${rows}u; i++) {
#if ${quad}
        let row = top + (i ^ lane);
#else
        let row = top + i;
#endif
        if (row < params.rows) { y[y_batch + row * params.columns + column] = tile[i * ${columns}u + j] + bias_j; }
      }
    }
  }
}
`,
  });
}

/** Invocations of a workgroup of `workgroup_tile` along each axis, and its steps along the inner axis per slice. */
const SIDE = 16;

/** Steps written out: enough to hide the loop, few enough for software adapters to compile (all 16 take them 8 s). */
const STEPS = 4;

export interface WorkgroupTile {
  /** Rows and columns of an invocation's register tile. */
  readonly block: number;
  /** Whether a is [inner, rows] and b [columns, inner] in memory: neighbours should load neighbouring addresses. */
  readonly transA: boolean;
  readonly transB: boolean;
}

export function workgroupMatmul({ block, transA, transB }: WorkgroupTile): Kernel {
  const tile = SIDE * block;
  // A row more keeps stores of a column of the slice out of one memory bank.
  const pitch = tile + 1;
  return kernel({
    label: 'matmul.workgroup_tile',
    bindings: BINDINGS,
    params: PARAMS,
    code: wgsl`
var<workgroup> a_slice: array<f32, ${SIDE * pitch}>;
var<workgroup> b_slice: array<f32, ${SIDE * pitch}>;

@compute @workgroup_size(${SIDE}, ${SIDE})
fn workgroup_tile(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_id) local: vec3<u32>, @builtin(local_invocation_index) index: u32) {
${PLACE}
  let top = workgroup.y * ${tile}u;
  let left = workgroup.x * ${tile}u;
  let a_start = batch * params.a_batch;
  let b_start = batch * params.b_batch;
${times(block, (i) => times(block, (j) => `  var y${i}_${j} = 0.0;`))}
  for (var k0 = begin; k0 < end; k0 += ${SIDE}u) {
    for (var i = index; i < ${SIDE * tile}u; i += ${SIDE * SIDE}u) {
#if ${transA}
      let a_step = i / ${tile}u;
      let row = i % ${tile}u;
#else
      let a_step = i % ${SIDE}u;
      let row = i / ${SIDE}u;
#endif
#if ${transB}
      let b_step = i % ${SIDE}u;
      let column = i / ${SIDE}u;
#else
      let b_step = i / ${tile}u;
      let column = i % ${tile}u;
#endif
      // Steps beyond the end add zero: the value itself is put to zero, since 0 * NaN is not.
      let a_value = a[a_start + min(top + row, params.rows - 1u) * params.a_row + min(k0 + a_step, end - 1u) * params.a_inner];
      let b_value = b[b_start + min(left + column, params.columns - 1u) * params.b_column + min(k0 + b_step, end - 1u) * params.b_inner];
      a_slice[a_step * ${pitch}u + row] = select(0.0, a_value, k0 + a_step < end);
      b_slice[b_step * ${pitch}u + column] = select(0.0, b_value, k0 + b_step < end);
    }
    workgroupBarrier();
    let steps = min(${SIDE}u, end - k0);
    for (var k = 0u; k < steps; k += ${STEPS}u) {
${times(STEPS, (u) => {
  const at = (side: 'x' | 'y', i: number): string => `(k + ${u}u) * ${pitch}u + local.${side} + ${i * SIDE}u`;
  return `${times(block, (i) => `      let a${i}_${u} = a_slice[${at('y', i)}];`)}
${times(block, (j) => `      let b${j}_${u} = b_slice[${at('x', j)}];`)}
${times(block, (i) => times(block, (j) => `      y${i}_${j} += a${i}_${u} * b${j}_${u};`))}`;
})}
    }
    workgroupBarrier();
  }
${times(
  block,
  (j) => `  let column${j} = left + local.x + ${j * SIDE}u;
  if (column${j} < params.columns) {
    let bias${j} = select(0.0, bias[select(0u, column${j}, biased)], biased);
${times(
  block,
  (i) => `    let row${i}_${j} = top + local.y + ${i * SIDE}u;
    if (row${i}_${j} < params.rows) { y[y_batch + row${i}_${j} * params.columns + column${j}] = y${i}_${j} + bias${j}; }`,
)}
  }`,
)}
}
`,
  });
}

/** Rows and columns of y that a workgroup of `workgroup_tile` computes. */
export const workgroupTileSide = (block: number): number => SIDE * block;
