import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { createPipelines, kernelKey, type Pipeline } from '../gpu/pipelines.js';
import { Watchdog } from '../gpu/watchdog.js';
import { SCALAR_SLOTS } from '../graph/kernel.js';
import type { Tensor } from '../graph/tensor.js';
import { mebibytes } from './binding-limit.js';
import type { Plan, PlannedLaunch } from './plan.js';

/** A dispatch with everything made: the flat list of these is a step. */
export interface Command {
  readonly launch: PlannedLaunch;
  readonly pipeline: Pipeline;
  readonly bindGroup: GPUBindGroup;
  /** Where the device reads the number of workgroups; null where the launch says it. */
  readonly indirect: { readonly buffer: GPUBuffer; readonly offset: number } | null;
}

/** Buffers, pipelines and bind groups of a plan. */
export interface Compiled {
  readonly plan: Plan;
  readonly gpu: Gpu;
  readonly buffers: readonly GPUBuffer[];
  readonly scalars: GPUBuffer;
  readonly commands: readonly Command[];
  destroy(): void;
}

/** Uniform slices begin at multiples of this many bytes (WebGPU's default `minUniformBufferOffsetAlignment`). */
const UNIFORM_ALIGNMENT = 256;

/** How far compilation is: `done` of `total` pipelines. */
export type CompileProgress = (done: number, total: number) => void;

/**
 * Makes everything that a step needs, so that replaying it creates nothing.
 *
 * @param given buffers of the caller's for tensors that have a planned buffer of their own; they outlive the result
 * @throws SopError 69 when memory does not suffice, 70 for a shader that does not compile, 75 for a lost device
 */
export async function compile(
  gpu: Gpu,
  plan: Plan,
  progress?: CompileProgress,
  given: ReadonlyMap<Tensor, GPUBuffer> = new Map(),
): Promise<Compiled> {
  const { device } = gpu;
  const pipelines = await createPipelines(
    gpu,
    plan.launches.map(({ kernel }) => kernel),
    progress,
  );
  const borrowed = new Map([...given].map(([tensor, buffer]) => [plan.range(tensor).buffer, buffer]));
  const own = await allocate(gpu, plan, borrowed);
  const buffers = plan.buffers.map((_, i) => borrowed.get(i) ?? own.get(i)!);
  for (const tensor of plan.graph.tensors) {
    if (!tensor.data) continue;
    const buffer = buffers[plan.range(tensor).buffer];
    if (buffer) device.queue.writeBuffer(buffer, 0, tensor.data as Float32Array<ArrayBuffer>);
  }
  const scalars = device.createBuffer({
    label: 'scalars',
    size: 4 * SCALAR_SLOTS,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  const params = packParams(plan.launches);
  const paramBuffer = device.createBuffer({
    label: 'params',
    size: params.data.byteLength,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  device.queue.writeBuffer(paramBuffer, 0, params.data);

  const commands = plan.launches.map((launch, i): Command => {
    const pipeline = pipelines.get(kernelKey(launch.kernel));
    if (!pipeline) throw new RangeError(`no pipeline for ${launch.kernel.label}`);
    const offset = params.offsets[i];
    const entries: GPUBindGroupEntry[] = launch.ranges.map((range, binding) => {
      const buffer = buffers[range.buffer];
      if (!buffer) throw new RangeError(`no buffer ${range.buffer}`);
      return { binding, resource: { buffer, offset: range.offset, size: range.size } };
    });
    const bindings = launch.kernel.bindings.length;
    if (offset !== undefined && launch.params.length > 0) {
      entries.push({ binding: bindings, resource: { buffer: paramBuffer, offset, size: paramBytes(launch) } });
    }
    if (launch.kernel.scalars) entries.push({ binding: bindings + 1, resource: { buffer: scalars } });
    const label = `${launch.kernel.label} of ${launch.node.scope || 'step'}[${launch.node.index}]`;
    const counts = launch.indirect && buffers[launch.indirect.buffer];
    return {
      launch,
      pipeline,
      bindGroup: device.createBindGroup({ label, layout: pipeline.layout, entries }),
      indirect: counts ? { buffer: counts, offset: launch.indirect.offset } : null,
    };
  });
  await gpu.orFail(device.queue.onSubmittedWorkDone(), new Watchdog(gpu.patience));
  gpu.check();
  return {
    plan,
    gpu,
    buffers,
    scalars,
    commands,
    destroy() {
      for (const buffer of [...own.values(), scalars, paramBuffer]) buffer.destroy();
      // An empty submit lets Dawn free destroyed buffers at once.
      device.queue.submit([]);
    },
  };
}

/**
 * The buffers of a plan by their place in it, without those that are borrowed.
 * @throws SopError (69) naming the buffer that the device has no memory for
 */
async function allocate(
  { device }: Gpu,
  plan: Plan,
  borrowed: ReadonlyMap<number, GPUBuffer>,
): Promise<Map<number, GPUBuffer>> {
  const shortages = new Map<number, Promise<GPUError | null>>();
  const buffers = new Map<number, GPUBuffer>();
  const { STORAGE, COPY_SRC, COPY_DST, INDIRECT } = GPUBufferUsage;
  const counting = new Set(plan.launches.map(({ indirect }) => indirect?.buffer));
  for (const [i, { label, bytes }] of plan.buffers.entries()) {
    if (borrowed.has(i)) continue;
    device.pushErrorScope('out-of-memory');
    const usage = STORAGE | COPY_SRC | COPY_DST | (counting.has(i) ? INDIRECT : 0);
    buffers.set(i, device.createBuffer({ label, size: bytes, usage }));
    shortages.set(i, device.popErrorScope());
  }
  let short = -1;
  for (const [i, shortage] of shortages) if ((await shortage) !== null && short < 0) short = i;
  if (short < 0) return buffers;
  for (const buffer of buffers.values()) buffer.destroy();
  device.queue.submit([]);
  const { label, bytes } = plan.buffers[short]!;
  const total = plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0);
  throw new SopError(ExitCode.unavailable, {
    what: 'the device has not enough memory',
    where: label,
    why: `${bytes} bytes could not be allocated, of ${mebibytes(total)} MiB in all`,
    fix: 'lower --batch-size, or set train.checkpoint_blocks=true',
  });
}

/** Uniform structs are rounded up to 16 bytes. */
function paramBytes({ params }: PlannedLaunch): number {
  return 16 * Math.ceil(params.length / 4);
}

/** All launches' params in one array, equal ones once. */
function packParams(launches: readonly PlannedLaunch[]): { data: ArrayBuffer; offsets: readonly number[] } {
  const offsetOf = new Map<string, number>();
  const offsets = launches.map(({ kernel, params }) => {
    const key = kernel.params.map(({ type }, i) => `${type}${params[i]}`).join();
    const known = offsetOf.get(key);
    if (known !== undefined) return known;
    const offset = offsetOf.size * UNIFORM_ALIGNMENT;
    offsetOf.set(key, offset);
    return offset;
  });
  const data = new ArrayBuffer(Math.max(1, offsetOf.size) * UNIFORM_ALIGNMENT);
  const view = new DataView(data);
  launches.forEach(({ kernel, params }, i) => {
    params.forEach((value, field) => {
      const at = (offsets[i] ?? 0) + 4 * field;
      const type = kernel.params[field]?.type;
      if (type === 'f32') view.setFloat32(at, value, true);
      else if (type === 'i32') view.setInt32(at, value, true);
      else view.setUint32(at, value, true);
    });
  });
  return { data, offsets };
}
