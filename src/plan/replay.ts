import { usedAfter } from '../errors.js';
import { patienceFor, Watchdog } from '../gpu/watchdog.js';
import { unpackHalves } from '../graph/half.js';
import { SCALAR_SLOTS } from '../graph/kernel.js';
import { GraphError, type Scalar } from '../graph/op.js';
import { bytes, elements, type Tensor } from '../graph/tensor.js';
import type { Command, Compiled } from './compile.js';
import { splitSubmits } from './submits.js';

/** The elements of a tensor, row-major, as programs read and write them. Those of f16 are read as f32. */
export type Elements = Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;

/** Steps that may be in flight before `run` has to wait for the oldest one's results. */
const RING = 3;

/** Bytes moved by one read-back of `read`. */
const READ_CHUNK = 64 * 2 ** 20;

/**
 * Runs a compiled step again and again. `run` creates nothing on the device: it writes the scalars, encodes the same
 * commands and copies the tensors of `fetched` into a ring of staging buffers.
 */
export class Replay {
  private readonly scalarBytes = new ArrayBuffer(4 * SCALAR_SLOTS);
  private readonly scalarView = new DataView(this.scalarBytes);
  /** The commands of a step, by the submits that it is cut into. */
  readonly submits: readonly (readonly Command[])[];
  private readonly ring: { readonly buffer: GPUBuffer; busy: Promise<unknown> }[];
  private turn = 0;
  private destroyed = false;
  /** Of every wait for the device: for results, for what is read back, for the end of the work. */
  readonly watchdog: Watchdog;

  constructor(
    readonly compiled: Compiled,
    private readonly fetched: readonly Tensor[] = [],
  ) {
    const { gpu, commands } = compiled;
    this.submits = splitSubmits(commands, gpu.target.maxDispatchFlops);
    const flops = commands.reduce((sum, { launch }) => sum + launch.flops, 0);
    this.watchdog = new Watchdog(gpu.patience ?? patienceFor(gpu.target.kind, flops));
    const size = fetched.reduce((sum, tensor) => sum + bytes(tensor), 0);
    this.ring = Array.from({ length: size > 0 ? RING : 0 }, (_, i) => ({
      buffer: this.device.createBuffer({
        label: `fetch.${i}`,
        size,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      }),
      busy: Promise.resolve(),
    }));
  }

  /** Gives the device the scalars as they are now, as `run` does. */
  writeScalars(): void {
    this.device.queue.writeBuffer(this.compiled.scalars, 0, this.scalarBytes);
  }

  /** Sets a scalar for the steps from now on. */
  setScalar({ slot, dtype }: Scalar, value: number): void {
    if (dtype === 'f32') this.scalarView.setFloat32(4 * slot, value, true);
    else this.scalarView.setUint32(4 * slot, value, true);
  }

  /**
   * Writes a whole input, state or parameter, f16 as `packHalves` makes it. Takes effect before the next `run`.
   * @throws GraphError for data of another size
   */
  write(tensor: Tensor, data: Elements): void {
    this.checkUsable();
    const { buffer, offset } = this.locate(tensor);
    if (data.byteLength !== bytes(tensor))
      throw new GraphError(tensor.label, `${data.byteLength} bytes written, it has ${bytes(tensor)}`);
    this.device.queue.writeBuffer(buffer, offset, data);
  }

  /** Resolves when `run` may be called: at most `RING` steps are in flight. */
  async ready(): Promise<void> {
    await this.ring[this.turn]?.busy;
    this.checkUsable();
  }

  /**
   * Encodes and submits one step, with the scalars and inputs as they are now. Resolves with the contents of the fetched
   * tensors once the device has done it; the caller may start further steps before that, after `ready`.
   * @throws SopError 70 for a GPU error, 75 for a device that is lost or hangs
   */
  async run(): Promise<Elements[]> {
    this.checkUsable();
    const slot = this.ring[this.turn];
    this.encode(slot?.buffer);
    if (!slot) return [];
    this.turn = (this.turn + 1) % RING;
    const result = this.collect(slot.buffer);
    slot.busy = result.catch(() => undefined);
    return await result;
  }

  /** Contents of any planned tensor, read in chunks. Waits for the device. @throws SopError 70, 75 of the device */
  async read(tensor: Tensor): Promise<Elements> {
    this.checkUsable();
    const { buffer, offset } = this.locate(tensor);
    const size = bytes(tensor);
    const result = new Uint8Array(size);
    const chunk = Math.min(size, READ_CHUNK);
    const staging = this.device.createBuffer({
      label: `read ${tensor.label}`,
      size: chunk,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    try {
      for (let done = 0; done < size; done += chunk) {
        const count = Math.min(chunk, size - done);
        const encoder = this.device.createCommandEncoder({ label: `read ${tensor.label}` });
        encoder.copyBufferToBuffer(buffer, offset + done, staging, 0, count);
        this.device.queue.submit([encoder.finish()]);
        await this.answer(staging.mapAsync(GPUMapMode.READ, 0, count));
        result.set(new Uint8Array(staging.getMappedRange(0, count)), done);
        staging.unmap();
      }
    } finally {
      staging.destroy();
    }
    return typed(tensor, result.buffer);
  }

  /**
   * Runs every different pipeline once on whatever the buffers hold, because software adapters compile at the first
   * dispatch. All state must be written after it.
   */
  async warmUp(progress?: (done: number, total: number) => void): Promise<void> {
    const first = [...new Map(this.compiled.commands.map((command) => [command.pipeline, command])).values()];
    for (const [done, { pipeline, bindGroup, launch }] of first.entries()) {
      const encoder = this.device.createCommandEncoder({ label: `warm up ${launch.kernel.label}` });
      const pass = encoder.beginComputePass({ label: launch.kernel.label });
      pass.setPipeline(pipeline.pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(1);
      pass.end();
      this.device.queue.submit([encoder.finish()]);
      await this.settled();
      progress?.(done + 1, first.length);
    }
  }

  /** Resolves when the device has nothing left to do. */
  async settled(): Promise<void> {
    this.checkUsable();
    await this.answer(this.device.queue.onSubmittedWorkDone());
  }

  /** Frees everything on the device, what `compiled` holds included. May be called twice. */
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    for (const { buffer } of this.ring) buffer.destroy();
    this.compiled.destroy();
  }

  private get device(): GPUDevice {
    return this.compiled.gpu.device;
  }

  /** Touching a freed buffer would be an error of the device, which ends all that was made on it. */
  private checkUsable(): void {
    this.compiled.gpu.check();
    if (this.destroyed) throw usedAfter('an encoder, run or kernel', 'destroy');
  }

  /** Waits for the device; what it returns is only worth something if neither it nor this has ended meanwhile. */
  private async answer(work: Promise<undefined>): Promise<void> {
    try {
      await this.compiled.gpu.orFail(work, this.watchdog);
    } catch (error) {
      this.checkUsable(); // what was freed meanwhile answers with words of the browser's own
      throw error;
    }
    this.checkUsable();
  }

  private locate(tensor: Tensor): { buffer: GPUBuffer; offset: number } {
    const range = this.compiled.plan.range(tensor);
    const buffer = this.compiled.buffers[range.buffer];
    if (!buffer) throw new GraphError(tensor.label, 'has no buffer');
    return { buffer, offset: range.offset };
  }

  private encode(staging: GPUBuffer | undefined): void {
    this.writeScalars();
    this.submits.forEach((commands, i) => {
      const encoder = this.device.createCommandEncoder({ label: `step.${i}` });
      const pass = encoder.beginComputePass({ label: `step.${i}` });
      dispatchAll(pass, commands);
      pass.end();
      if (staging && i === this.submits.length - 1) this.copyFetched(encoder, staging);
      this.device.queue.submit([encoder.finish()]);
    });
  }

  private copyFetched(encoder: GPUCommandEncoder, staging: GPUBuffer): void {
    let at = 0;
    for (const tensor of this.fetched) {
      const { buffer, offset } = this.locate(tensor);
      encoder.copyBufferToBuffer(buffer, offset, staging, at, bytes(tensor));
      at += bytes(tensor);
    }
  }

  private async collect(staging: GPUBuffer): Promise<Elements[]> {
    const started = performance.now();
    await this.answer(staging.mapAsync(GPUMapMode.READ));
    this.watchdog.took((performance.now() - started) / 1000);
    const all = staging.getMappedRange().slice(0);
    staging.unmap();
    let at = 0;
    return this.fetched.map((tensor) => {
      const data = typed(tensor, all.slice(at, at + bytes(tensor)));
      at += bytes(tensor);
      return data;
    });
  }
}

/** A call into Dawn costs JavaScript about as much as all else here: a pipeline that is set already is not set again. */
export function dispatchAll(pass: GPUComputePassEncoder, commands: readonly Command[]): void {
  let current: GPUComputePipeline | undefined;
  for (const { pipeline, bindGroup, launch, indirect } of commands) {
    if (pipeline.pipeline !== current) pass.setPipeline(pipeline.pipeline);
    current = pipeline.pipeline;
    pass.setBindGroup(0, bindGroup);
    const [x, y, z] = launch.workgroups;
    if (indirect) pass.dispatchWorkgroupsIndirect(indirect.buffer, indirect.offset);
    else pass.dispatchWorkgroups(x, y, z);
  }
}

function typed(tensor: Tensor, buffer: ArrayBuffer): Elements {
  const { dtype } = tensor;
  if (dtype === 'f16') return unpackHalves(buffer, elements(tensor));
  if (dtype === 'f32') return new Float32Array(buffer);
  return dtype === 'u32' ? new Uint32Array(buffer) : new Int32Array(buffer);
}
