/**
 * Element types of tensors. Masks and indices are `u32`; row numbers that come from outside are `i32`. What is stored in `f16`
 * is computed with in f32: kernels widen what they load and round what they store.
 */
export type DType = 'f32' | 'f16' | 'u32' | 'i32';
/** How real numbers are stored. */
export type RealType = 'f32' | 'f16';

/**
 * Where a tensor's bytes come from.
 * - `parameter`: trained; kept from step to step; has a gradient
 * - `state`: kept from step to step, no gradient (moments, teacher, memories, pointers)
 * - `input`: written by the host before each step
 * - `constant`: given once, at trace time
 * - `computed`: output of a node
 */
export type Storage = 'parameter' | 'state' | 'input' | 'constant' | 'computed';

/** Shape and element type, without identity. */
export interface Spec {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** A value of a graph, known by its shape and type; its elements are on a device (`Replay.read`). */
export interface Tensor extends Spec {
  /** Place in `Graph.tensors`. */
  readonly id: number;
  /** What it is, for people: `blocks.0.attn.qkv.weight`, `layernorm[3].y`. */
  readonly label: string;
  readonly storage: Storage;
  /** Only for constants: row-major elements. */
  readonly data?: Float32Array | Uint32Array | Int32Array;
  /** Set by `Graph.pack`: this tensor is elements `offset` ... of the flat tensor `of`. */
  view: { readonly of: Tensor; readonly offset: number } | null;
}

/** Number of elements of a tensor or of a shape; 0 of an input that is not there. */
export function elements(of: { readonly shape: readonly number[] } | undefined): number {
  return of ? of.shape.reduce((product, side) => product * side, 1) : 0;
}

/** Bytes of a tensor; f16 takes whole groups of 16, so that a kernel that loads four f32 at a time may have it bound too. */
export function bytes(spec: Spec): number {
  return spec.dtype === 'f16' ? 16 * Math.ceil(elements(spec) / 8) : 4 * elements(spec);
}

/** `[2, 3]` for messages. */
export function showShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** `f32 [2, 3]` for messages. */
export function showSpec(spec: Spec | undefined): string {
  return spec ? `${spec.dtype} ${showShape(spec.shape)}` : 'missing';
}

/** An f32 spec: most are. */
export function f32(...shape: number[]): Spec {
  return { shape, dtype: 'f32' };
}

/** How the real numbers of a tensor are stored: f32 unless it says f16. */
export function realType(spec: Spec | undefined): RealType {
  return spec?.dtype === 'f16' ? 'f16' : 'f32';
}

/** A spec of real numbers that are stored like those of `like`. */
export function real(like: Spec | undefined, ...shape: number[]): Spec {
  return { shape, dtype: realType(like) };
}

/** A spec of real numbers of the shape of `spec` and stored like them. */
export function like(spec: Spec | undefined): Spec {
  return real(spec, ...(spec?.shape ?? []));
}

/** Bytes of some tensors together: what an op that reads and writes each of them once moves. */
export function moved(...specs: readonly (Spec | undefined)[]): number {
  return specs.reduce((sum, spec) => sum + (spec ? bytes(spec) : 0), 0);
}

/** A u32 spec. */
export function u32(...shape: number[]): Spec {
  return { shape, dtype: 'u32' };
}

/** Whether both are there and equal. */
export function sameShape(a: readonly number[] | undefined, b: readonly number[] | undefined): boolean {
  return a !== undefined && a.length === b?.length && a.every((side, i) => side === b[i]);
}
