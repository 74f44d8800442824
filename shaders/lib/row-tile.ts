import { elementType } from './each.js';
import { times } from './kernel.js';
import type { Lanes } from './shared-values.js';

/**
 * A tile of a matrix product with rows on lanes: y[r, x] = sum_k a[r, k] b[x, k]. An invocation keeps `rows` whole rows of the
 * tile (rows local, local + lanes, ... of it), so that what follows a product row by row, a softmax, a top-k list, needs no
 * exchange and the product is never stored.
 */
export interface RowTile extends Lanes {
  /** Rows of an invocation. */
  readonly rows: number;
  readonly columns: number;
  /** Steps along k at a time; 4, in a subgroup alone, loads a and b by four, whose rows then begin at multiples of 4. */
  readonly unroll: 1 | 4;
}

/** Element type of the bindings of a and b. */
export const rowTileElement = ({ unroll }: RowTile): string => elementType(unroll === 4);

/** Rows of a workgroup's tile. */
export const tileRows = ({ lanes, rows }: RowTile): number => lanes * rows;

interface RowTileOperands {
  /** Names of the bindings, whose elements are `rowTileElement`. */
  readonly a: string;
  readonly b: string;
  /** WGSL of the element at which row `r` of the tile begins in a, column `x` in b: inside the buffer for any u32. */
  aStart(r: string): string;
  bStart(x: string): string;
  /** WGSL of the number of k, which are neighbours in both. */
  readonly length: string;
}

/** Steps along k that a workgroup loads at a time into workgroup memory. */
const STEPS = 16;

/** WGSL that goes to module scope. */
export function rowTileDeclaration(tile: RowTile): string {
  if (tile.subgroup) return '';
  // One more keeps stores along k out of one memory bank.
  return `var<workgroup> a_slice: array<f32, ${STEPS * (tileRows(tile) + 1)}>;
var<workgroup> b_slice: array<f32, ${STEPS * (tile.columns + 1)}>;`;
}

/**
 * WGSL statements that leave y in `acc`, an array of rows x columns numbers, row-major. Place them in uniform control flow.
 *
 * Subgroup variant: per k an invocation loads `rows` numbers of a and its share of b, and broadcasts pass b on; the sums
 * are named scalars until the end, because arrays that are indexed by a variable later would live in memory. Software adapters
 * write a sum to memory under a mask each time that it changes: four steps change it once.
 */
export function rowTile(tile: RowTile, operands: RowTileOperands): string {
  const { rows, columns } = tile;
  const sum = (r: number, x: number): string => `y${r}_${x}`;
  return `${times(rows, (r) => times(columns, (x) => `var ${sum(r, x)} = 0.0;`))}
${tile.subgroup ? bySubgroup(tile, operands, sum) : byWorkgroup(tile, operands, sum)}
var acc: array<f32, ${rows * columns}>;
${times(rows, (r) => times(columns, (x) => `acc[${r * columns + x}] = ${sum(r, x)};`))}`;
}

type Sum = (r: number, x: number) => string;

function bySubgroup({ lanes, rows, columns, unroll }: RowTile, operands: RowTileOperands, sum: Sum): string {
  const { a, b, aStart, bStart, length } = operands;
  const loads = Math.ceil(columns / lanes);
  const start = (at: string): string => (unroll === 4 ? `(${at}) / 4u` : at);
  const steps = unroll === 4 ? ['.x', '.y', '.z', '.w'] : [''];
  const products = (r: number, x: number): string =>
    steps.reduce((total, step, u) => `(${total} + a${r}${step} * b_${x}_${u})`, sum(r, x));
  const broadcasts = (x: number): string =>
    times(unroll, (u) => `  let b_${x}_${u} = subgroupBroadcast(b${Math.floor(x / lanes)}${steps[u]}, ${x % lanes}u);`);
  return `${times(rows, (r) => `var a_at${r} = ${start(aStart(`(local + ${r * lanes}u)`))};`)}
${times(loads, (i) => `var b_at${i} = ${start(bStart(`(local + ${i * lanes}u)`))};`)}
for (var k = 0u; k < ${length}; k += ${unroll}u) {
${times(rows, (r) => `  let a${r} = ${a}[a_at${r}]; a_at${r} += 1u;`)}
${times(loads, (i) => `  let b${i} = ${b}[b_at${i}]; b_at${i} += 1u;`)}
${times(
  columns,
  (x) => `${broadcasts(x)}
${times(rows, (r) => `  ${sum(r, x)} = ${products(r, x)};`)}`,
)}
}`;
}

function byWorkgroup(tile: RowTile, operands: RowTileOperands, sum: Sum): string {
  const { lanes, rows, columns } = tile;
  const { a, b, aStart, bStart, length } = operands;
  const [aPitch, bPitch] = [tileRows(tile) + 1, columns + 1];
  return `
for (var k0 = 0u; k0 < ${length}; k0 += ${STEPS}u) {
  workgroupBarrier();
  for (var i = local; i < ${STEPS * tileRows(tile)}u; i += ${lanes}u) {
    let step = i % ${STEPS}u;
    let r = i / ${STEPS}u;
    let value = ${a}[${aStart('r')} + min(k0 + step, ${length} - 1u)];
    a_slice[step * ${aPitch}u + r] = select(0.0, value, k0 + step < ${length});
  }
  for (var i = local; i < ${STEPS * columns}u; i += ${lanes}u) {
    let step = i % ${STEPS}u;
    let x = i / ${STEPS}u;
    let value = ${b}[${bStart('x')} + min(k0 + step, ${length} - 1u)];
    b_slice[step * ${bPitch}u + x] = select(0.0, value, k0 + step < ${length});
  }
  workgroupBarrier();
  for (var k = 0u; k < ${STEPS}u; k++) {
${times(rows, (r) => `    let a${r} = a_slice[k * ${aPitch}u + local + ${r * lanes}u];`)}
${times(
  columns,
  (x) => `    let b_${x} = b_slice[k * ${bPitch}u + ${x}u];
${times(rows, (r) => `    ${sum(r, x)} += a${r} * b_${x};`)}`,
)}
  }
}`;
}

/** Params that `eachTileRow` and `eachTileColumn` read, and their values. */
export const ROW_TILE_PARAMS = { lane_rows: 'u32', tile_columns: 'u32' } as const;
export const rowTileParams = ({ rows, columns }: RowTile) => ({ lane_rows: rows, tile_columns: columns });

/**
 * `body(r)` for each row r of an invocation (WGSL, u32), to follow `rowTile`. A subgroup kernel loops: software adapters need
 * about 50 ms to compile a memory access, so the bound is a param, which keeps them from unrolling it. A GPU must unroll it
 * to keep `acc` in registers.
 */
export function eachTileRow({ rows, subgroup }: RowTile, body: (r: string) => string): string {
  if (!subgroup) return times(rows, (r) => `{ ${body(`${r}u`)} }`);
  return `for (var r = 0u; r < params.lane_rows; r++) { ${body('r')} }`;
}

/** `body(x)` for each column x of the tile, in the same way. */
export function eachTileColumn({ columns, subgroup }: RowTile, body: (x: string) => string): string {
  if (!subgroup) return times(columns, (x) => `{ ${body(`${x}u`)} }`);
  return `for (var x = 0u; x < params.tile_columns; x++) { ${body('x')} }`;
}
