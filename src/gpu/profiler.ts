import type { Gpu } from './device.js';

/** Begin and end of a dispatch on the device's clock, ms. */
export interface Span {
  readonly begin: number;
  readonly end: number;
}

/** Queries of a set: WebGPU allows 4,096. */
const PASSES_OF_SET = 2048;

/**
 * Times compute passes one by one. With the feature `timestamp-query` the device writes the times; without it each pass is
 * submitted and waited for alone, which adds the cost of a submit to every span.
 */
export async function timePasses(
  gpu: Gpu,
  passes: readonly ((pass: GPUComputePassEncoder) => void)[],
): Promise<Span[]> {
  const spans: Span[] = [];
  for (let start = 0; start < passes.length; start += PASSES_OF_SET) {
    const some = passes.slice(start, start + PASSES_OF_SET);
    spans.push(...(await (gpu.target.timestamps ? withTimestamps(gpu, some) : oneByOne(gpu, some))));
  }
  gpu.check();
  return spans;
}

async function withTimestamps(
  { device }: Gpu,
  passes: readonly ((pass: GPUComputePassEncoder) => void)[],
): Promise<Span[]> {
  const count = 2 * passes.length;
  const querySet = device.createQuerySet({ label: 'profile', type: 'timestamp', count });
  const usage = GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC;
  const resolved = device.createBuffer({ label: 'profile', size: 8 * count, usage });
  const staging = device.createBuffer({
    label: 'profile read',
    size: 8 * count,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const encoder = device.createCommandEncoder({ label: 'profile' });
  passes.forEach((dispatch, i) => {
    const timestampWrites = { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
    const pass = encoder.beginComputePass({ label: `profile ${i}`, timestampWrites });
    dispatch(pass);
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, staging, 0, 8 * count);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const times = [...new BigInt64Array(staging.getMappedRange())].map((nanoseconds) => Number(nanoseconds) / 1e6);
  staging.destroy();
  resolved.destroy();
  querySet.destroy();
  return passes.map((_, i) => ({ begin: times[2 * i] ?? Number.NaN, end: times[2 * i + 1] ?? Number.NaN }));
}

async function oneByOne({ device }: Gpu, passes: readonly ((pass: GPUComputePassEncoder) => void)[]): Promise<Span[]> {
  const spans: Span[] = [];
  for (const dispatch of passes) {
    const encoder = device.createCommandEncoder({ label: 'profile' });
    const pass = encoder.beginComputePass({ label: 'profile' });
    dispatch(pass);
    pass.end();
    const begin = performance.now();
    device.queue.submit([encoder.finish()]);
    await device.queue.onSubmittedWorkDone();
    spans.push({ begin, end: performance.now() });
  }
  return spans;
}

/**
 * Milliseconds that `dispatches` take together, done `repeats` times: by the device's clock on a GPU, where submitting and
 * waiting cost as much as a kernel; on a software adapter, whose clock is the host's, from the submit to the end of a small
 * read-back.
 */
export async function timeTogether(
  gpu: Gpu,
  repeats: number,
  dispatches: (pass: GPUComputePassEncoder) => void,
): Promise<number> {
  const all = (pass: GPUComputePassEncoder): void => {
    for (let i = 0; i < repeats; i++) dispatches(pass);
  };
  if (gpu.target.kind === 'gpu' && gpu.target.timestamps) {
    const [span] = await timePasses(gpu, [all]);
    return span ? span.end - span.begin : Number.NaN;
  }
  const { device } = gpu;
  const [source, staging] = [GPUBufferUsage.COPY_SRC, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST].map((usage) =>
    device.createBuffer({ label: 'timing', size: 4, usage }),
  );
  if (!source || !staging) return Number.NaN;
  const encoder = device.createCommandEncoder({ label: 'timing' });
  const pass = encoder.beginComputePass({ label: 'timing' });
  all(pass);
  pass.end();
  encoder.copyBufferToBuffer(source, 0, staging, 0, 4);
  const commands = encoder.finish();
  const start = performance.now();
  device.queue.submit([commands]);
  await gpu.orFail(staging.mapAsync(GPUMapMode.READ));
  const elapsed = performance.now() - start;
  for (const buffer of [source, staging]) buffer.destroy();
  gpu.check();
  return elapsed;
}
