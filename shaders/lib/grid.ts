import { wgsl } from './kernel.js';

/**
 * `flat_group(workgroup, groups)`: number of a workgroup in a grid that `grid` has folded into two dimensions. Compare what
 * follows from it with the number of elements before use: the last workgroups may lie beyond.
 */
export const GRID = wgsl`
fn flat_group(workgroup: vec3<u32>, groups: vec3<u32>) -> u32 { return workgroup.y * groups.x + workgroup.x; }
`;

/** Workgroups for `count` invocations of `size` each, folded into two dimensions where one does not suffice. */
export function grid(count: number, size: number): readonly [number, number, number] {
  const groups = Math.ceil(count / size);
  const y = Math.ceil(groups / 65535);
  return [Math.ceil(groups / y), y, 1];
}
