import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import type { Attributes, Op, Scalar } from '../graph/op.js';
import type { DType, Spec, Tensor } from '../graph/tensor.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';

/**
 * A buffer of the caller's, with usage `STORAGE | COPY_SRC | COPY_DST`, and what lies in it, row-major from its start. One of f16,
 * which needs an adapter with shader-f16, has whole groups of 16 bytes.
 */
export interface KernelTensor {
  readonly shape: readonly number[];
  /** `f32` where left out. */
  readonly dtype?: DType;
  readonly buffer: GPUBuffer;
}

/** Attributes of an op; those that change from run to run are scalars that `scalar(name, value)` makes. */
export type KernelAttributes<A extends Attributes> =
  | A
  | ((scalar: (name: string, value: number, dtype?: Scalar['dtype']) => Scalar) => A);

/**
 * One op of the engine, compiled for given shapes and bound to the caller's buffers. Running it creates nothing.
 */
export class EngineKernel {
  private constructor(
    private readonly gpu: Gpu,
    private readonly name: string,
    private readonly replay: Replay,
    private readonly tensors: readonly Tensor[],
  ) {}

  /**
   * @throws GraphError for shapes, types or attributes that the op does not take; SopError 64 for an input or output that it does
   * not have, and for a buffer that is too small, lacks a usage, is written to and given twice, or cannot be used now: mapped,
   * destroyed, or of another device; what `compile` throws
   */
  static async create<A extends Attributes>(
    gpu: Gpu,
    op: Op<A>,
    inputs: readonly KernelTensor[],
    attributes: KernelAttributes<A>,
    outputs: readonly (GPUBuffer | null)[] = [],
  ): Promise<EngineKernel> {
    const graph = new Graph();
    const values = new Map<Scalar, number>();
    const scalar = (name: string, value: number, dtype: Scalar['dtype'] = 'f32'): Scalar => {
      const made = graph.scalar(name, dtype);
      values.set(made, value);
      return made;
    };
    const attrs = typeof attributes === 'function' ? attributes(scalar) : attributes;
    const given = new Map<Tensor, GPUBuffer>();
    const read = inputs.map(({ shape, dtype = 'f32', buffer }, i) => {
      // What an update changes is state; the rest is read alone.
      const tensor = op.updates?.includes(i)
        ? graph.state(`input.${i}`, shape, dtype)
        : graph.input(`input.${i}`, shape, dtype);
      given.set(tensor, buffer);
      return tensor;
    });
    const written = graph.add(op, read, attrs);
    written.forEach((tensor, i) => {
      const buffer = outputs[i];
      if (buffer) given.set(tensor, buffer);
    });
    if (outputs.length > written.length)
      throw unfit(op.name, `it has ${written.length} outputs, given ${outputs.length}`, 'leave the others out');
    const planned = plan(graph, gpu.target, written);
    for (const [tensor, buffer] of given) {
      const where = `${op.name}, ${tensor.label} [${tensor.shape}]`;
      const place = planned.range(tensor).buffer;
      const used = planned.launches.flatMap(({ ranges, indirect }) => [...ranges, indirect]);
      if (!used.some((range) => range?.buffer === place)) throw unfit(where, 'it is not read', 'leave it out');
      checkBuffer(where, buffer, planned.buffers[place]?.bytes ?? 0);
      const other = [...given].find(([one, same]) => same === buffer && one !== tensor)?.[0].label;
      if (other && tensor.storage !== 'input')
        throw unfit(where, `${other} lies in it too`, 'give each a buffer of its own');
      await tryBuffer(gpu, where, buffer);
    }
    const replay = new Replay(await compile(gpu, planned, undefined, given));
    for (const [name, value] of values) replay.setScalar(name, value);
    return new EngineKernel(gpu, op.name, replay, written);
  }

  /** Shapes and types of the outputs. */
  get outputs(): readonly Spec[] {
    return this.tensors;
  }

  /**
   * Submits the kernel. What the caller submits to the same queue before and after keeps its order; its end is not awaited.
   * @throws SopError 64 for a buffer of the caller's that is mapped or destroyed by now: nothing was computed then
   */
  async run(): Promise<void> {
    await submitting(this.gpu, this.name, () => this.replay.run());
  }

  /**
   * Contents of output `index`, once the device has computed it.
   * @throws RangeError where the op has no such output; SopError 64 as `run`
   */
  async read(index = 0): Promise<Elements> {
    const tensor = this.tensors[index];
    if (!tensor) throw new RangeError(`no output ${index}`);
    return submitting(this.gpu, tensor.label, () => this.replay.read(tensor));
  }

  /** Frees what the kernel made; the caller's buffers stay. */
  destroy(): void {
    this.replay.destroy();
  }
}

/** A buffer that does not fit would be an error of the device, which ends everything that was made on it. */
function checkBuffer(where: string, { size, usage }: GPUBuffer, needed: number): void {
  if (size < needed)
    throw unfit(where, `it has ${size} bytes, expected ${needed}`, 'give a buffer that holds the whole tensor');
  const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
  if (~usage & (STORAGE | COPY_SRC | COPY_DST))
    throw unfit(where, `its usage is ${usage}`, 'give STORAGE | COPY_SRC | COPY_DST');
}

/** What only the device knows of a buffer: whether it can be used at all. */
function tryBuffer(gpu: Gpu, where: string, buffer: GPUBuffer): Promise<void> {
  const { device } = gpu;
  return submitting(gpu, where, async () => {
    const probe = device.createBuffer({ size: 4, usage: GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, probe, 0, 4);
    device.queue.submit([encoder.finish()]);
    probe.destroy();
  });
}

/**
 * What `body` submits before it first waits. A buffer that cannot be used would be an error of the device, which ends all that
 * was made on it: in this scope it is the caller's, and nothing was done.
 */
async function submitting<T>({ device }: Gpu, where: string, body: () => Promise<T>): Promise<T> {
  device.pushErrorScope('validation');
  const done = body();
  const asked = device.popErrorScope().catch(() => null); // a lost device, which all else tells
  const result = await done;
  const problem = await asked;
  if (!problem) return result;
  const [what = ''] = problem.message.split('\n', 1); // the rest is where in our own commands
  throw unfit(where, what.replace(/\.$/, ''), 'give buffers of this device, unmapped and not destroyed');
}

const unfit = (where: string, why: string, fix: string): SopError =>
  new SopError(ExitCode.usage, { what: 'buffer does not fit', where, why, fix });
