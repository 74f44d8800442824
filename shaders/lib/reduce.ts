import { wgsl } from './kernel.js';

/**
 * `tree_sum(local, value)`: sum over a workgroup of `size` invocations (a power of two), the same on each of them. Call it
 * in uniform control flow. The tree has a fixed shape: the same values give the same bits.
 */
export function treeSum(size: number): string {
  return wgsl`
var<workgroup> tree: array<f32, ${size}>;
fn tree_sum(local: u32, value: f32) -> f32 {
  workgroupBarrier();
  tree[local] = value;
  for (var half = ${size / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (local < half) { tree[local] += tree[local + half]; }
  }
  workgroupBarrier();
  return tree[0];
}
`;
}
