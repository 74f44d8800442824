import { times, wgsl } from './kernel.js';

/**
 * How the invocations of a workgroup hand values to each other: by `subgroupBroadcast` where the workgroup is exactly one
 * subgroup (software adapters: a broadcast costs a twentieth of a load), else through workgroup memory.
 */
export interface Lanes {
  /** Invocations of a workgroup. */
  readonly lanes: number;
  readonly subgroup: boolean;
}

/** Values that each invocation of a workgroup needs, loaded once by the workgroup together. */
interface SharedValues {
  /** Goes to module scope. */
  readonly declaration: string;
  /** Loads all values. Place it in uniform control flow. */
  readonly fill: string;
  /** WGSL of value i. */
  at(i: number): string;
}

/**
 * `count` values of `type` under `name`. `load(i)` is the WGSL that loads value number `i` (WGSL, u32); it is also called
 * with numbers up to the next multiple of `lanes` and has to stay inside its buffer.
 */
export function sharedValues(
  { lanes, subgroup }: Lanes,
  name: string,
  type: string,
  count: number,
  load: (i: string) => string,
): SharedValues {
  if (subgroup) {
    return {
      declaration: '',
      fill: times(Math.ceil(count / lanes), (i) => `let ${name}${i} = ${load(`(local + ${i * lanes}u)`)};`),
      at: (i) => `subgroupBroadcast(${name}${Math.floor(i / lanes)}, ${i % lanes}u)`,
    };
  }
  return {
    declaration: `var<workgroup> ${name}: array<${type}, ${count}>;`,
    // The first barrier waits for those who still read what was filled in before.
    fill: wgsl`workgroupBarrier();
for (var i = local; i < ${count}u; i += ${lanes}u) { ${name}[i] = ${load('i')}; }
workgroupBarrier();`,
    at: (i) => `${name}[${i}]`,
  };
}
