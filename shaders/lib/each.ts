import type { Target } from '../../src/gpu/target.js';
import { GRID, grid } from './grid.js';
import { wgsl } from './kernel.js';

/** How an `each` kernel is cut: a workgroup of `size` invocations does `per` elements each. */
export interface EachLayout {
  readonly size: number;
  readonly per: number;
}

const ONE_EACH: EachLayout = { size: 64, per: 1 };

/**
 * The layout that is fastest on `target`: lavapipe pays for every subgroup that it starts (half the time with 16 elements
 * each), SwiftShader for every turn of a loop, a GPU for neither.
 */
export function eachLayout({ kind }: Target): EachLayout {
  return kind === 'lavapipe' ? { size: 16, per: 16 } : ONE_EACH;
}

/**
 * Entry point `name` that runs `body` once for each `i` in [0, params.count), which the kernel declares as a u32 param.
 * Dispatch it over `eachGrid(count, layout)`. In a `batched` one, dispatched over `eachBatchGrid`, that happens for every
 * `batch`, which is then the same in a whole workgroup.
 */
export function each(
  name: string,
  body: string,
  { size, per, batched = false }: EachLayout & { readonly batched?: boolean } = ONE_EACH,
): string {
  return wgsl`${GRID}
@compute @workgroup_size(${size})
fn ${name}(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
${' '.repeat(name.length + 4)}@builtin(local_invocation_index) local: u32) {
#if ${batched}
  let batch = workgroup.y;
  let first = (workgroup.z * groups.x + workgroup.x) * ${size * per}u;
#else
  let first = flat_group(workgroup, groups) * ${size * per}u;
#endif
#if ${per > 1}
  let end = min(params.count, first + ${size * per}u);
  for (var i = first + local; i < end; i += ${size}u) {
#else
  let i = first + local;
  if (i < params.count) {
#endif
  ${body.trim()}
  }
}
`;
}

/** Workgroups of an `each` entry point over `count` elements. */
export function eachGrid(count: number, { size, per } = ONE_EACH): readonly [number, number, number] {
  return grid(count, size * per);
}

/** Workgroups of a batched `each` entry point over `count` elements of each batch. */
export function eachBatchGrid(count: number, batches: number, layout: EachLayout): readonly [number, number, number] {
  const [x, z] = eachGrid(count, layout);
  return [x, batches, z];
}

/** How many elements of a binding `count` numbers are: groups of four where that divides, because loads are what costs. */
export function byFour(count: number): { readonly vec4: boolean; readonly width: number } {
  const vec4 = count % 4 === 0;
  return { vec4, width: vec4 ? count / 4 : count };
}

/** WGSL type of such an element. */
export function elementType(vec4: boolean): string {
  return vec4 ? 'vec4<f32>' : 'f32';
}

/** `real`: the element type under one name; `across(v)`: the sum of its numbers. */
export function real(vec4: boolean): string {
  return wgsl`
alias real = ${elementType(vec4)};
fn across(v: real) -> f32 {
#if ${vec4}
  return (v.x + v.y) + (v.z + v.w);
#else
  return v;
#endif
}
`;
}
