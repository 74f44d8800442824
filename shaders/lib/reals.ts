import type { RealType } from '../../src/graph/tensor.js';

/** A storage binding of real numbers. They are stored in the type that is said; kernels compute in f32 whatever that is. */
interface Reals {
  /** An element in the binding table. */
  readonly element: string;
  /** WGSL of element i, in f32. */
  at(i: string): string;
  /** WGSL that stores a value of f32 as element i, rounded to nearest. */
  put(i: string, value: string): string;
}

/** The binding `name`, of single numbers or of four an element. */
export function reals(name: string, vec4: boolean, type: RealType): Reals {
  const of = (stored: string): string => (vec4 ? `vec4<${stored}>` : stored);
  const convert = (to: string, value: string): string => (type === 'f32' ? value : `${of(to)}(${value})`);
  return {
    element: of(type),
    at: (i) => convert('f32', `${name}[${i}]`),
    put: (i, value) => `${name}[${i}] = ${convert(type, value)};`,
  };
}
