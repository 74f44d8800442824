import { nearestName } from '../config/nearest.js';
import { type NamedArray, toFloat32 } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import { showShape } from '../graph/tensor.js';

/** The tensors of a `debug step` file, each asked for by name, shape and type. All errors are `SopError` 65. */
export class DebugTensors {
  constructor(
    private readonly tensors: ReadonlyMap<string, NamedArray>,
    private readonly where: string,
  ) {}

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  names(): readonly string[] {
    return [...this.tensors.keys()];
  }

  get(name: string): NamedArray {
    const array = this.tensors.get(name);
    if (array) return array;
    throw new SopError(ExitCode.data, {
      what: 'tensor is missing',
      where: `${this.where}, ${name}`,
      why: 'a step needs it',
      fix: 'add it to the file',
    });
  }

  /** Sides of a tensor that has `rank` of them, none of them 0. */
  shape(name: string, rank: number): readonly number[] {
    const { shape } = this.get(name);
    if (shape.length === rank && shape.every((side) => side > 0)) return shape;
    throw this.misfit(name, `shape ${showShape(shape)}, expected ${rank} sides, none of them 0`);
  }

  agree(name: string, expected: readonly number[]): void {
    const { shape } = this.get(name);
    if (shape.join() !== expected.join())
      throw this.misfit(name, `shape ${showShape(shape)}, expected ${showShape(expected)}`);
  }

  floats(name: string): Float32Array<ArrayBuffer> {
    const array = this.get(name);
    if (!['F32', 'F64', 'F16', 'BF16'].includes(array.dtype))
      throw this.misfit(name, `type ${array.dtype}, expected F32`);
    return toFloat32(array) as Float32Array<ArrayBuffer>;
  }

  /** Whole numbers from 0 to `bound - 1`. */
  indices(name: string, bound: number): Int32Array {
    const { data, dtype } = this.get(name);
    if (dtype !== 'I32' && dtype !== 'U32') throw this.misfit(name, `type ${dtype}, expected I32`);
    const bad = data.find((row) => row < 0 || row >= bound);
    if (bad !== undefined) throw this.misfit(name, `${bad} is not in 0 to ${bound - 1}`);
    return Int32Array.from(data);
  }

  /** 0 where a flag is 0, else 1. */
  flags(name: string): Uint8Array {
    const { data, dtype } = this.get(name);
    if (dtype !== 'U8' && dtype !== 'BOOL') throw this.misfit(name, `type ${dtype}, expected U8`);
    return Uint8Array.from(data, (flag) => (flag === 0 ? 0 : 1));
  }

  /** Refuses what looks like a tensor of the format and is none: a misspelt name would else go unnoticed. */
  refuseUnknown(known: ReadonlySet<string>): void {
    for (const name of this.tensors.keys()) {
      if (known.has(name)) continue;
      const guess = nearestName(
        name,
        [...known].filter((other) => !this.tensors.has(other)),
      );
      if (!guess && !/^(student|teacher|moment[12]|keep)\./.test(name)) continue;
      throw new SopError(ExitCode.data, {
        what: 'tensor is not known',
        where: `${this.where}, ${name}`,
        why: 'a step of these sizes has none of that name',
        fix: guess ? `did you mean ${guess}?` : 'leave it out',
      });
    }
  }

  misfit(name: string, why: string): SopError {
    return new SopError(ExitCode.data, {
      what: 'tensor does not fit',
      where: `${this.where}, ${name}`,
      why,
      fix: 'correct it; sop-gpu debug step --help lists all tensors',
    });
  }
}
