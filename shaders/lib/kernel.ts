/// <reference path="./wgsl-preprocessor.d.ts" />
import { type Kernel, type KernelParam, SCALAR_SLOTS } from '../../src/graph/kernel.js';

export { wgsl } from 'wgsl-preprocessor/wgsl-preprocessor.js';

/** `count` copies of a piece of WGSL, one a line. */
export function times(count: number, piece: (i: number) => string): string {
  return Array.from({ length: count }, (_, i) => piece(i)).join('\n');
}

/** `read('f32')` in a binding table: `var<storage, read> name: array<f32>`. */
interface BindingDeclaration {
  readonly access: 'read' | 'read_write';
  readonly element: string;
}
export const read = (element: string): BindingDeclaration => ({ access: 'read', element });
export const write = (element: string): BindingDeclaration => ({ access: 'read_write', element });

/** What an entry point of a shader file returns through `kernel`. */
export interface KernelDeclaration {
  /** `<shader file>.<entry point>`. */
  readonly label: string;
  /** Storage buffers in binding order, by the name that the code uses. */
  readonly bindings: Readonly<Record<string, BindingDeclaration>>;
  /** Numbers fixed when the plan is compiled; the code reads `params.<name>`. */
  readonly params?: Readonly<Record<string, KernelParam['type']>>;
  /** True when the code calls `scalar_f32(slot)` or `scalar_u32(slot)`; the slots come in as `params`. */
  readonly scalars?: boolean;
  /** `enable` directives that the code needs, besides that of f16, which follows from the bindings. */
  readonly enable?: readonly 'subgroups'[];
  /** WGSL with one entry point, named as in `label`. */
  readonly code: string;
}

const SCALARS = `fn scalar_u32(slot: u32) -> u32 { return scalars[slot >> 2u][slot & 3u]; }
fn scalar_f32(slot: u32) -> f32 { return bitcast<f32>(scalar_u32(slot)); }
`;

/** Completes an entry point with the declarations of its bindings, so that table and code cannot disagree. */
export function kernel(declaration: KernelDeclaration): Kernel {
  const { label, bindings, code, enable = [], scalars = false } = declaration;
  const entry = label.slice(label.indexOf('.') + 1);
  const params = Object.entries(declaration.params ?? {}).map(([name, type]) => ({ name, type }));
  const names = Object.entries(bindings);
  const half = names.some(([, { element }]) => element.includes('f16')) ? ['f16'] : [];
  const lines = [...enable, ...half].map((extension) => `enable ${extension};`);
  names.forEach(([name, { access, element }], i) => {
    lines.push(`@group(0) @binding(${i}) var<storage, ${access}> ${name}: array<${element}>;`);
  });
  if (params.length > 0) {
    lines.push(`struct Params { ${params.map(({ name, type }) => `${name}: ${type}`).join(', ')} }`);
    lines.push(`@group(0) @binding(${names.length}) var<uniform> params: Params;`);
  }
  if (scalars) {
    lines.push(`@group(0) @binding(${names.length + 1}) var<uniform> scalars: array<vec4<u32>, ${SCALAR_SLOTS / 4}>;`);
    lines.push(SCALARS);
  }
  const header = `${lines.join('\n')}\n`;
  return {
    label,
    entry,
    bindings: names.map(([name, { access }]) => ({ name, access })),
    params,
    scalars,
    source: header + code,
    headerLines: header.split('\n').length - 1,
  };
}
