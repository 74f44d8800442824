import type { Target } from '../../src/gpu/target.js';
import { grid } from './grid.js';
import { wgsl } from './kernel.js';
import { treeSum } from './reduce.js';

/**
 * Who works on a row: one invocation (software adapters: nothing to exchange), one subgroup that is a whole workgroup (a
 * GPU: exchange without barriers), or a workgroup with shared memory (a GPU without subgroups of one size).
 */
export interface RowLayout {
  readonly by: 'invocation' | 'subgroup' | 'workgroup';
  /** Invocations that share a row; a power of two. */
  readonly lanes: number;
  /** Elements of a row that an invocation may keep in registers: `rowRegisters`. */
  readonly maxRegisters: number;
}

/** Workgroup size where each invocation has its own row. */
const INVOCATIONS = 32;

/** Layouts by name, the one that is fastest on `target` first. */
function rowLayouts({ kind, subgroupSize }: Target): readonly RowLayout[] {
  // Unrolled accesses to memory compile slowly on lavapipe: seconds for rows of 16 elements, to save a
  // millisecond a run. More than 16 would spill on the others.
  const alone: RowLayout = { by: 'invocation', lanes: 1, maxRegisters: kind === 'lavapipe' ? 0 : 16 };
  const together: RowLayout = { by: 'workgroup', lanes: 64, maxRegisters: 16 };
  const subgroups: RowLayout[] = subgroupSize > 1 ? [{ by: 'subgroup', lanes: subgroupSize, maxRegisters: 16 }] : [];
  return kind === 'gpu' ? [...subgroups, together, alone] : [alone, ...subgroups, together];
}

/** Names of the layouts that `target` can choose from, as an op's `variants`. */
export const rowVariants = ({ target }: { readonly target: Target }): readonly string[] =>
  rowLayouts(target).map(({ by }) => by);

/** The layout of a variant; of the first where none is named. */
export function rowLayout(target: Target, variant?: string): RowLayout {
  const layouts = rowLayouts(target);
  const found = layouts.find(({ by }) => by === variant) ?? layouts[0];
  if (!found) throw new RangeError('no layout of rows');
  return found;
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

/** Elements that each invocation keeps of rows of `width` elements, which is its whole share; 0: too many or uneven. */
export function rowRegisters({ lanes, maxRegisters }: RowLayout, width: number): number {
  return width % lanes === 0 && width / lanes <= maxRegisters ? width / lanes : 0;
}

/**
 * WGSL for an `eachRow` body that goes over a row more than once. `values` names expressions in the number of an element.
 * `load` evaluates them once into registers if there are any; `loop(body)` runs a statement for each of this invocation's
 * elements, with its number `i` and those names, which without registers are evaluated anew.
 */
export function rowElements(registers: number, values: Readonly<Record<string, (i: string) => string>>) {
  const named = Object.entries(values);
  if (registers === 0) {
    const again = named.map(([name, value]) => `let ${name} = ${value('i')};`).join(' ');
    const loop = (body: string): string =>
      `for (var i = lane; i < params.width; i += LANES) { ${again} ${body.trim()} }`;
    return { load: '', loop };
  }
  const unrolled = (statements: (k: number) => string): string =>
    Array.from({ length: registers }, (_, k) => statements(k)).join('\n');
  const index = (k: number): string => `lane + ${k}u * LANES`;
  return {
    load: unrolled((k) => named.map(([name, value]) => `let ${name}${k} = ${value(index(k))};`).join(' ')),
    loop: (body: string): string =>
      unrolled((k) => {
        const kept = named.map(([name]) => `let ${name} = ${name}${k};`).join(' ');
        return `{ let i = ${index(k)}; ${kept} ${body.trim()} }`;
      }),
  };
}
