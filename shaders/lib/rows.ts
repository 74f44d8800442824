import type { Target } from '../../src/gpu/target.js';
import { grid } from './grid.js';
import { wgsl } from './kernel.js';
import { treeSum } from './reduce.js';

/**
 * Who works on a row: one invocation (lavapipe: nothing to exchange), one subgroup that is a whole workgroup (exchange
 * without barriers), or a workgroup with shared memory (anything else).
 */
export interface RowLayout {
  readonly by: 'invocation' | 'subgroup' | 'workgroup';
  /** Invocations that share a row; a power of two. */
  readonly lanes: number;
}

/** Workgroup size where each invocation has its own row. */
const INVOCATIONS = 32;

/** The layout that is fastest on `target`. */
export function rowLayout(target: Target): RowLayout {
  if (target.kind === 'lavapipe') return { by: 'invocation', lanes: 1 };
  if (target.subgroupSize > 1) return { by: 'subgroup', lanes: target.subgroupSize };
  return { by: 'workgroup', lanes: 64 };
}

/** `enable` directives of a kernel with this layout. */
export function rowExtensions({ by }: RowLayout): readonly 'subgroups'[] {
  return by === 'subgroup' ? ['subgroups'] : [];
}

/**
 * Entry point `name` whose `body` runs for each `row` in [0, params.rows), on all LANES invocations of the row together:
 * `lane` is the number of this one. `row_sum(v)` adds a number over the lanes, in a fixed order; call it in uniform control
 * flow. Dispatch it over `rowGrid(layout, rows)`.
 */
export function eachRow({ by, lanes }: RowLayout, name: string, body: string): string {
  const alone = by === 'invocation';
  const size = alone ? INVOCATIONS : lanes;
  return wgsl`
#if ${by === 'workgroup'}
${treeSum(lanes)}
var<private> lane: u32;
#endif
const LANES = ${lanes}u;
fn row_sum(v: f32) -> f32 {
#if ${by === 'invocation'}
  return v;
#elif ${by === 'subgroup'}
  return subgroupAdd(v);
#else
  return tree_sum(lane, v);
#endif
}
@compute @workgroup_size(${size})
fn ${name}(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
${' '.repeat(name.length + 4)}@builtin(local_invocation_index) local: u32) {
  let group = workgroup.y * groups.x + workgroup.x;
#if ${by === 'invocation'}
  let row = group * ${size}u + local;
  let lane = 0u;
#else
  let row = group;
#if ${by === 'workgroup'}
  lane = local;
#else
  let lane = local;
#endif
#endif
  if (row >= params.rows) { return; }
  ${body.trim()}
}
`;
}

/** Workgroups of an `eachRow` entry point. */
export function rowGrid({ by }: RowLayout, rows: number): readonly [number, number, number] {
  return grid(rows, by === 'invocation' ? INVOCATIONS : 1);
}
