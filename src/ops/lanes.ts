import type { Target } from '../gpu/target.js';

/**
 * Invocations (a power of two) of the workgroups that add up a span of elements: 64 on a GPU; one subgroup on the software
 * adapters, where a barrier among several costs as much as a thousand loads and one within a subgroup next to nothing.
 */
export function lanes({ kind, subgroupSize }: Target): number {
  return kind === 'gpu' ? 64 : subgroupSize || 8;
}
