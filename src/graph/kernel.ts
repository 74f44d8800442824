/** A WGSL compute entry point with its binding table. Plain data: printing it shows the shader, hashing it finds the pipeline. */
export interface Kernel {
  /** `layernorm.forward`: shader file, entry point. */
  readonly label: string;
  readonly entry: string;
  readonly bindings: readonly KernelBinding[];
  /** Fields of the uniform `params`, in order. */
  readonly params: readonly KernelParam[];
  /** Whether it reads the step uniform (`scalar_f32`, `scalar_u32`). */
  readonly scalars: boolean;
  /** Complete WGSL: generated declarations, then the code of the shader file. */
  readonly source: string;
  /** Lines of `source` before the code of the shader file, for messages. */
  readonly headerLines: number;
}

export interface KernelBinding {
  readonly name: string;
  readonly access: 'read' | 'read_write';
}

export interface KernelParam {
  readonly name: string;
  readonly type: 'u32' | 'f32' | 'i32';
}

/** Slots of the step uniform: 32 numbers that change from step to step. */
export const SCALAR_SLOTS = 32;
