// attention: softmax(q k^T / sqrt(w)) v for each head of each sequence, w = head width, W = heads w.
//
//   qkv             [rows, 3 W]     columns: q of all heads, k of all heads, v of all heads (timm)
//   out             [rows, W]
//   lse             [rows, heads]   log sum_j exp(q . k_j / sqrt(w)): all that backward needs to know of the softmax
//   d_out, d_qkv    as out, qkv
//   delta           [rows, heads]   d_out . out (scratch of backward)
//
// forward: online softmax. Scores are never stored: with the running maximum m, z = sum exp(s - m), a = sum exp(s - m) v,
//   a tile of keys with a larger maximum m' first scales z and a by exp(m - m').
// backward: p = exp(s - lse), dp = d_out . v, ds = p (dp - delta);
//   dq = sum_keys ds k / sqrt(w), dk = sum_queries ds q / sqrt(w), dv = sum_queries p d_out.
//   One template twice: a row owns either its query (writes dq and delta) or its key and value (writes dk, dv); the other
//   kind streams by. So every sum has one owner and a fixed order.
//
// An invocation owns `owned` rows and keeps all their vectors in registers; tiles of the other rows are loaded by the
// workgroup together (lib/shared-values). Exponentials are base 2, the factor log2(e) being part of the scale.
// A launch is one segment: `count` sequences of `length` rows from `first_row` on.

import type { Kernel } from '../src/graph/kernel.js';
import type { RealType } from '../src/graph/tensor.js';
import { GRID } from './lib/grid.js';
import { kernel, read, times, wgsl, write } from './lib/kernel.js';
import { reals } from './lib/reals.js';
import { type Lanes, sharedValues } from './lib/shared-values.js';

/** Shape of the code of an attention kernel. */
export interface AttentionVariant extends Lanes {
  readonly headWidth: number;
  /** Rows of an invocation. */
  readonly owned: number;
  /** Rows that are streamed at a time. */
  readonly tile: number;
  /** Of qkv, out and their gradients; lse and delta are f32. */
  readonly type: RealType;
}

const PARAMS = {
  heads: 'u32',
  length: 'u32',
  first_row: 'u32',
  row_tiles: 'u32',
  /** Row tiles of all heads and sequences are numbered in one; these are the dispatch's. */
  first_group: 'u32',
  end_group: 'u32',
  scale: 'f32',
  /** Vectors of 4 numbers that an invocation owns of q, k, v each: owned ceil(w / 4). */
  chunks: 'u32',
} as const;

const LOG2_E = Math.LOG2E;
/** Lower than any score, and small enough that differences stay finite. */
const LOWEST = '-1e30';

/** The parts that forward and both backward kernels have in common. */
function parts({ headWidth, lanes, subgroup, owned, type }: AttentionVariant) {
  const vec4 = headWidth % 4 === 0;
  const chunks = Math.ceil(headWidth / 4);
  const stored = (buffer: string) => reals(buffer, vec4, type);
  const number = (buffer: string, axis: string): string => stored(buffer).at(`i.${axis}`);
  const loader = (buffer: string): string => wgsl`
fn ${buffer}_chunk(at: u32, c: u32) -> vec4<f32> {
#if ${vec4}
  return ${stored(buffer).at('at / 4u + c')};
#else
  let column = 4u * c + vec4(0u, 1u, 2u, 3u);
  let i = at + min(column, vec4(${headWidth - 1}u));
  return select(vec4(0.0), vec4(${['x', 'y', 'z', 'w'].map((axis) => number(buffer, axis)).join(', ')}), column < vec4(${headWidth}u));
#endif
}`;
  const storer = (buffer: string): string => wgsl`
fn store_${buffer}(at: u32, c: u32, value: vec4<f32>) {
#if ${vec4}
  ${stored(buffer).put('at / 4u + c', 'value')}
#else
  for (var e = 0u; e < min(4u, ${headWidth}u - 4u * c); e++) { ${stored(buffer).put('at + 4u * c + e', 'value[e]')} }
#endif
}`;
  return {
    chunks,
    element: stored('').element,
    enable: subgroup ? (['subgroups'] as const) : [],
    loaders: (...buffers: string[]) => buffers.map(loader).join('\n'),
    storer,
    head: (name: string) => wgsl`
@compute @workgroup_size(${lanes})
fn ${name}(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
  let group = params.first_group + flat_group(workgroup, groups);
  if (group >= params.end_group) { return; }
  let head = (group / params.row_tiles) % params.heads;
  let begin = params.first_row + group / (params.row_tiles * params.heads) * params.length;
  let width = params.heads * ${headWidth}u;
  let last = params.length - 1u;
  let column = head * ${headWidth}u;
  let mine = group % params.row_tiles * ${lanes * owned}u + local;
`,
    /**
     * Runs `body` for every chunk `c` of every owned row `row`; `i` counts both. Software adapters compile a memory access
     * in about 50 ms and so must not unroll this: the bound is a param. A GPU has to, to keep the arrays in registers.
     */
    eachChunk: (body: string) => wgsl`
  for (var i = 0u; i < ${subgroup ? 'params.chunks' : `${owned * chunks}u`}; i++) {
    let c = i % ${chunks}u;
    let row = begin + min(mine + i / ${chunks}u * ${lanes}u, last);
    ${body}
  }`,
    /** Runs `body` for every owned row. */
    eachRow: (body: (r: number) => string) => times(owned, (r) => body(r)),
    /** Whether row r of an invocation lies in the sequence; `i` counts chunks. */
    inside: `mine + i / ${chunks}u * ${lanes}u <= last`,
    row: (r: number) => `(begin + min(mine + ${r * lanes}u, last))`,
    array: `array<vec4<f32>, ${owned * chunks}>`,
  };
}

const sum4 = (v: string): string => `(${v}.x + ${v}.y) + (${v}.z + ${v}.w)`;
const qkvAt = (row: string, part: number): string =>
  `${row} * 3u * width + ${part === 0 ? '' : `${part}u * width + `}column`;
const outAt = (row: string): string => `${row} * width + column`;

/** One dispatch over ceil(length / (lanes owned)) x heads x count workgroups. */
export function attentionForwardKernel(variant: AttentionVariant): Kernel {
  const { lanes, tile } = variant;
  const { chunks, element, enable, loaders, storer, head, eachChunk, eachRow, inside, row, array } = parts(variant);
  const streamed = (part: number) => (i: string) =>
    `qkv_chunk(${qkvAt(`(begin + min(first + ${i} / ${chunks}u, last))`, part)}, ${i} % ${chunks}u)`;
  const keys = sharedValues(variant, 'keys', 'vec4<f32>', tile * chunks, streamed(1));
  const values = sharedValues(variant, 'values', 'vec4<f32>', tile * chunks, streamed(2));
  // One store a tile: software adapters write elements of arrays to memory, under a mask, each time that they change.
  const weighted = (r: number, c: number): string =>
    Array.from({ length: tile }, (_, j) => ` + p${r}_${j} * v${j}`).reduce(
      (sum, term) => `(${sum}${term})`,
      `a[${r * chunks + c}] * shrink${r}`,
    );
  return kernel({
    label: 'attention.forward',
    enable,
    bindings: { qkv: read(element), out: write(element), lse: write('f32') },
    params: PARAMS,
    code: wgsl`${GRID}${loaders('qkv')}${storer('out')}
${keys.declaration}
${values.declaration}
${head('forward')}
  var q: ${array};
  var a: ${array};
  ${eachChunk(`q[i] = params.scale * ${LOG2_E} * qkv_chunk(${qkvAt('row', 0)}, c);`)}
${eachRow((r) => `  var m${r} = ${LOWEST}; var z${r} = 0.0;`)}
  for (var first = 0u; first < params.length; first += ${tile}u) {
    ${keys.fill}
    ${values.fill}
${times(
  tile,
  (j) => wgsl`
${eachRow((r) => `    var s${r}_${j} = vec4(0.0);`)}
${times(
  chunks,
  (c) => `    { let k = ${keys.at(j * chunks + c)};
${eachRow((r) => `      s${r}_${j} += q[${r * chunks + c}] * k;`)} }`,
)}
${eachRow((r) => `    let t${r}_${j} = select(${LOWEST}, ${sum4(`s${r}_${j}`)}, first + ${j}u <= last);`)}`,
)}
${eachRow(
  (r) => wgsl`
    var next${r} = m${r};
${times(tile, (j) => `    next${r} = max(next${r}, t${r}_${j});`)}
    let shrink${r} = exp2(m${r} - next${r});
    m${r} = next${r};
    z${r} *= shrink${r};
${times(tile, (j) => `    let p${r}_${j} = exp2(t${r}_${j} - m${r}); z${r} += p${r}_${j};`)}`,
)}
${times(
  chunks,
  (c) => `    {
${times(tile, (j) => `      let v${j} = ${values.at(j * chunks + c)};`)}
${eachRow((r) => `      a[${r * chunks + c}] = ${weighted(r, c)};`)} }`,
)}
  }
${eachRow(
  (r) => wgsl`
${times(chunks, (c) => `  a[${r * chunks + c}] *= 1.0 / z${r};`)}
  if (mine + ${r * lanes}u <= last) { lse[${row(r)} * params.heads + head] = (m${r} + log2(z${r})) * ${Math.LN2}; }`,
)}
  ${eachChunk(`if (${inside}) { store_out(${outAt('row')}, c, a[i]); }`)}
}
`,
  });
}

/** Which rows the invocations of a backward kernel own. Dispatch `query` first: `key` reads the delta that it writes. */
export type Owner = 'query' | 'key';

/** One dispatch over ceil(length / (lanes owned)) x heads x count workgroups. */
export function attentionBackwardKernel(variant: AttentionVariant, owner: Owner): Kernel {
  const { lanes, tile } = variant;
  const { chunks, element, enable, loaders, storer, head, eachChunk, eachRow, inside, row, array } = parts(variant);
  const query = owner === 'query';
  const count = tile * chunks;
  const other = (i: string): string => `(begin + min(first + ${i}, last))`;
  const otherRow = (i: string): string => other(`${i} / ${chunks}u`);
  // The streamed rows: x meets the owned x in the score, y the owned y in dp.
  const xs = sharedValues(
    variant,
    'xs',
    'vec4<f32>',
    count,
    (i) => `qkv_chunk(${qkvAt(otherRow(i), query ? 1 : 0)}, ${i} % ${chunks}u)`,
  );
  const ys = sharedValues(variant, 'ys', 'vec4<f32>', count, (i) =>
    query
      ? `qkv_chunk(${qkvAt(otherRow(i), 2)}, ${i} % ${chunks}u)`
      : `d_out_chunk(${outAt(otherRow(i))}, ${i} % ${chunks}u)`,
  );
  const lses = sharedValues(variant, 'lses', 'f32', tile, (i) => `${LOG2_E} * lse[${other(i)} * params.heads + head]`);
  const deltas = sharedValues(variant, 'deltas', 'f32', tile, (i) => `delta[${other(i)} * params.heads + head]`);
  const common = { qkv: read(element), d_out: read(element), lse: read('f32') };
  return kernel({
    label: `attention.backward_${owner}`,
    enable,
    bindings: query
      ? { ...common, out: read(element), delta: write('f32'), d_qkv: write(element) }
      : { ...common, delta: read('f32'), d_qkv: write(element) },
    params: PARAMS,
    code: wgsl`${GRID}${loaders('qkv', 'd_out')}${storer('d_qkv')}
#if ${query}
${loaders('out')}
#else
${lses.declaration}
${deltas.declaration}
#endif
${xs.declaration}
${ys.declaration}
${head(`backward_${owner}`)}
  var x: ${array};
  var y: ${array};
  var dx: ${array};
#if ${query}
  var product: ${array};
  ${eachChunk(`x[i] = params.scale * ${LOG2_E} * qkv_chunk(${qkvAt('row', 0)}, c);
    y[i] = d_out_chunk(${outAt('row')}, c);
    product[i] = y[i] * out_chunk(${outAt('row')}, c);`)}
${eachRow(
  (r) => `  var sum${r} = vec4(0.0);
${times(chunks, (c) => `  sum${r} += product[${r * chunks + c}];`)}
  let delta${r} = ${sum4(`sum${r}`)};
  let lse${r} = ${LOG2_E} * lse[${row(r)} * params.heads + head];`,
)}
#else
  var dy: ${array};
  ${eachChunk(`x[i] = params.scale * ${LOG2_E} * qkv_chunk(${qkvAt('row', 1)}, c);
    y[i] = qkv_chunk(${qkvAt('row', 2)}, c);`)}
#endif
  for (var first = 0u; first < params.length; first += ${tile}u) {
    ${xs.fill}
    ${ys.fill}
#if ${!query}
    ${lses.fill}
    ${deltas.fill}
#endif
${times(
  tile,
  (j) => wgsl`
    {
${eachRow((r) => `      var s${r} = vec4(0.0); var t${r} = vec4(0.0);`)}
${times(
  chunks,
  (c) => `      let x_${c} = ${xs.at(j * chunks + c)};
      let y_${c} = ${ys.at(j * chunks + c)};
${eachRow((r) => `      s${r} += x[${r * chunks + c}] * x_${c}; t${r} += y[${r * chunks + c}] * y_${c};`)}`,
)}
#if ${!query}
      let lse_j = ${lses.at(j)};
      let delta_j = ${deltas.at(j)};
#endif
${eachRow(
  (r) => wgsl`
      let p${r} = select(0.0, exp2(${sum4(`s${r}`)} - ${query ? `lse${r}` : 'lse_j'}), first + ${j}u <= last);
      let ds${r} = p${r} * (${sum4(`t${r}`)} - ${query ? `delta${r}` : 'delta_j'});
${times(chunks, (c) => `      dx[${r * chunks + c}] += ds${r} * x_${c};`)}
#if ${!query}
${times(chunks, (c) => `      dy[${r * chunks + c}] += p${r} * y_${c};`)}
#endif`,
)}
    }`,
)}
  }
#if ${query}
${eachRow((r) => `  if (mine + ${r * lanes}u <= last) { delta[${row(r)} * params.heads + head] = delta${r}; }`)}
  ${eachChunk(`if (${inside}) { store_d_qkv(${qkvAt('row', 0)}, c, params.scale * dx[i]); }`)}
#else
  ${eachChunk(`if (${inside}) {
      store_d_qkv(${qkvAt('row', 1)}, c, params.scale * dx[i]);
      store_d_qkv(${qkvAt('row', 2)}, c, dy[i]);
    }`)}
#endif
}
`,
  });
}
