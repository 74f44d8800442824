import { grid } from './grid.js';
import { wgsl } from './kernel.js';

const SIZE = 64;

/**
 * Entry point `name` that runs `body` once for each `i` in [0, params.count), which the kernel declares as a u32 param.
 * Dispatch it over `eachGrid(count)`.
 */
export function each(name: string, body: string): string {
  return wgsl`
@compute @workgroup_size(${SIZE})
fn ${name}(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
${' '.repeat(name.length + 4)}@builtin(local_invocation_index) local: u32) {
  let i = (workgroup.y * groups.x + workgroup.x) * ${SIZE}u + local;
  if (i >= params.count) { return; }
  ${body.trim()}
}
`;
}

/** Workgroups of an `each` entry point over `count` elements. */
export function eachGrid(count: number): readonly [number, number, number] {
  return grid(count, SIZE);
}

/** WGSL type of one element of a binding: four numbers where that divides, because load instructions are what costs. */
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
