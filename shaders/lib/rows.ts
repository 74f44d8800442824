import type { Target } from '../../src/gpu/target.js';
import { byFour } from './each.js';
import { GRID, grid } from './grid.js';
import { wgsl } from './kernel.js';
import { treeSum } from './reduce.js';

/**
 * Who works on a row: one invocation (software adapters: nothing to exchange), one subgroup that is a whole workgroup (a GPU, and
 * software adapters for short rows: exchange without barriers), or a workgroup with shared memory (a GPU without subgroups of
 * one size).
 */
export interface RowLayout {
  readonly by: 'invocation' | 'subgroup' | 'workgroup';
  /** Invocations that share a row; a power of two. */
  readonly lanes: number;
  /** Elements of a row that an invocation may keep in registers: `rowRegisters`. */
  readonly maxRegisters: number;
  /** Rows that a workgroup goes through, where that pays: what they share is loaded once. */
  readonly turns: number;
}

/** Workgroup size where each invocation has its own row. */
const INVOCATIONS = 32;

/**
 * Layouts by name, the one that is fastest on `target` for rows of `width` elements first.
 *
 * On software adapters an invocation of its own for each row has nothing to exchange, but loads the row once for each use;
 * where its elements fit into the registers of a subgroup, each is loaded once: layer norm is 1.7 times as fast on lavapipe, 2
 * to 3 times on SwiftShader. Unrolled accesses compile slowly, on lavapipe 1.5 s with 12, and more than 16 gain little there;
 * SwiftShader's four lanes need 24 for rows of 384 numbers.
 */
function rowLayouts({ kind, subgroupSize }: Target, width: number): readonly RowLayout[] {
  const alone: RowLayout = { by: 'invocation', lanes: 1, maxRegisters: kind === 'lavapipe' ? 0 : 16, turns: 1 };
  const together: RowLayout = { by: 'workgroup', lanes: 64, maxRegisters: 16, turns: 1 };
  const turns = kind === 'gpu' ? 1 : 32;
  const maxRegisters = kind === 'swiftshader' ? 24 : 16;
  const subgroup: RowLayout = { by: 'subgroup', lanes: subgroupSize, maxRegisters, turns };
  if (subgroupSize <= 1) return kind === 'gpu' ? [together, alone] : [alone, together];
  if (kind === 'gpu') return [subgroup, together, alone];
  return rowRegisters(subgroup, width) > 0 ? [subgroup, alone, together] : [alone, subgroup, together];
}

/** Names of the layouts that `target` can choose from, for rows of the first input, as an op's `variants`. */
export const rowVariants = ({
  target,
  inputs,
}: {
  readonly target: Target;
  readonly inputs: readonly { readonly shape: readonly number[] }[];
}): readonly string[] => rowLayouts(target, byFour(inputs[0]?.shape.at(-1) ?? 1).width).map(({ by }) => by);

/** The layout of a variant for rows of `width` elements (0: of too many for registers); the first where none is named. */
export function rowLayout(target: Target, width: number, variant?: string): RowLayout {
  const layouts = rowLayouts(target, width);
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
 * flow. Dispatch it over `rowGrid(layout, rows)`. `before` and `after` come once for all rows of a workgroup, `group`.
 */
export function eachRow({ by, lanes, turns }: RowLayout, name: string, body: string, before = '', after = ''): string {
  const alone = by === 'invocation';
  const size = alone ? INVOCATIONS : lanes;
  return wgsl`${GRID}
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
  let group = flat_group(workgroup, groups);
#if ${by === 'invocation'}
  let lane = 0u;
#elif ${by === 'workgroup'}
  lane = local;
#else
  let lane = local;
#endif
  ${before.trim()}
#if ${turns > 1}
  let end = min(params.rows, (group + 1u) * ${turns}u);
  for (var row = group * ${turns}u; row < end; row++) {
#else
  let row = ${alone ? `group * ${size}u + local` : 'group'};
  if (row < params.rows) {
#endif
  ${body.trim()}
  }
  ${after.trim()}
}
`;
}

/** Workgroups of an `eachRow` entry point. */
export function rowGrid({ by, turns }: RowLayout, rows: number): readonly [number, number, number] {
  return grid(rows, by === 'invocation' ? INVOCATIONS : turns);
}

/** Elements that each invocation keeps of rows of `width` elements, which is its whole share; 0: too many or uneven. */
export function rowRegisters({ lanes, maxRegisters }: RowLayout, width: number): number {
  return width % lanes === 0 && width / lanes <= maxRegisters ? width / lanes : 0;
}

/**
 * WGSL for an `eachRow` body that goes over a row more than once. `values` names expressions in the number of an element, and
 * `same` those that are the same for every row. `before` and `load` evaluate them once into registers if there are any;
 * `loop(body)` runs a statement for each of this invocation's elements, with its number `i` and those names, which without
 * registers are evaluated anew. `sums` names pointers to what is added up over the rows of a workgroup, which registers alone
 * can hold; `total(body)` runs a statement for each element with those, after the rows.
 */
export function rowElements(
  registers: number,
  values: Readonly<Record<string, (i: string) => string>>,
  same: typeof values = {},
  sums: readonly string[] = [],
) {
  const named = Object.entries({ ...values, ...same });
  if (registers === 0) {
    const again = named.map(([name, value]) => `let ${name} = ${value('i')};`).join(' ');
    const loop = (body: string): string =>
      `for (var i = lane; i < params.width; i += LANES) { ${again} ${body.trim()} }`;
    return { before: '', load: '', loop, total: () => '' };
  }
  const unrolled = (statements: (k: number) => string): string =>
    Array.from({ length: registers }, (_, k) => statements(k)).join('\n');
  const index = (k: number): string => `lane + ${k}u * LANES`;
  const kept = (expressions: typeof values): string =>
    unrolled((k) =>
      Object.entries(expressions)
        .map(([name, value]) => `let ${name}${k} = ${value(index(k))};`)
        .join(' '),
    );
  const pointers = (k: number): string => sums.map((name) => `let ${name} = &${name}${k};`).join(' ');
  return {
    before: `${kept(same)}\n${unrolled((k) => sums.map((name) => `var ${name}${k} = real();`).join(' '))}`,
    load: kept(values),
    loop: (body: string): string =>
      unrolled((k) => {
        const names = named.map(([name]) => `let ${name} = ${name}${k};`).join(' ');
        return `{ let i = ${index(k)}; ${names} ${pointers(k)} ${body.trim()} }`;
      }),
    total: (body: string): string => unrolled((k) => `{ let i = ${index(k)}; ${pointers(k)} ${body.trim()} }`),
  };
}
