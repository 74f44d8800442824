import type { Gpu } from './device.js';
import type { Watchdog } from './watchdog.js';

/** Begin and end of a dispatch on the device's clock, ms. */
export interface Span {
  readonly begin: number;
  readonly end: number;
}

/** Dispatches that are timed together. */
export type Pass = (pass: GPUComputePassEncoder) => void;

/** Queries of a set: WebGPU allows 4,096. */
const PASSES_OF_SET = 2048;

/**
 * Times compute passes one by one, those of a submit after each other. With the feature `timestamp-query` the device writes
 * the times; without it each pass is submitted and waited for alone, which adds the cost of a submit to every span.
 * @param progress passes that are timed; what it throws ends the timing
 * @throws SopError 75 when the device hangs or is lost
 */
export async function timePasses(
  gpu: Gpu,
  submits: readonly (readonly Pass[])[],
  watchdog: Watchdog,
  progress?: (done: number) => void,
): Promise<Span[]> {
  const spans: Span[] = [];
  for (const passes of submits) {
    for (let start = 0; start < passes.length; start += PASSES_OF_SET) {
      const some = passes.slice(start, start + PASSES_OF_SET);
      spans.push(...(await (gpu.target.timestamps ? withTimestamps : oneByOne)(gpu, some, watchdog)));
      gpu.check();
      progress?.(spans.length);
    }
  }
  return spans;
}

async function withTimestamps(gpu: Gpu, passes: readonly Pass[], watchdog: Watchdog): Promise<Span[]> {
  const { device } = gpu;
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
  await gpu.orFail(staging.mapAsync(GPUMapMode.READ), watchdog);
  const times = [...new BigInt64Array(staging.getMappedRange())].map((nanoseconds) => Number(nanoseconds) / 1e6);
  staging.destroy();
  resolved.destroy();
  querySet.destroy();
  return passes.map((_, i) => ({ begin: times[2 * i] ?? Number.NaN, end: times[2 * i + 1] ?? Number.NaN }));
}

async function oneByOne(gpu: Gpu, passes: readonly Pass[], watchdog: Watchdog): Promise<Span[]> {
  const { device } = gpu;
  const spans: Span[] = [];
  for (const dispatch of passes) {
    const encoder = device.createCommandEncoder({ label: 'profile' });
    const pass = encoder.beginComputePass({ label: 'profile' });
    dispatch(pass);
    pass.end();
    const begin = performance.now();
    device.queue.submit([encoder.finish()]);
    await gpu.orFail(device.queue.onSubmittedWorkDone(), watchdog);
    spans.push({ begin, end: performance.now() });
  }
  return spans;
}

/**
 * Milliseconds that passes take together, a submit each: by the device's clock on a GPU, where submitting and waiting cost as
 * much as a kernel; on a software adapter, whose clock is the host's, from the first submit to the end of a small read-back.
 * @throws SopError 75 when the device hangs or is lost
 */
export async function timeTogether(gpu: Gpu, passes: readonly Pass[], watchdog: Watchdog): Promise<number> {
  if (gpu.target.kind === 'gpu' && gpu.target.timestamps) {
    const submits = passes.map((pass) => [pass]);
    return (await timePasses(gpu, submits, watchdog)).reduce((sum, { begin, end }) => sum + end - begin, 0);
  }
  const { device } = gpu;
  const [source, staging] = [GPUBufferUsage.COPY_SRC, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST].map((usage) =>
    device.createBuffer({ label: 'timing', size: 4, usage }),
  );
  if (!source || !staging) return Number.NaN;
  const commands = passes.map((dispatch) => {
    const encoder = device.createCommandEncoder({ label: 'timing' });
    const pass = encoder.beginComputePass({ label: 'timing' });
    dispatch(pass);
    pass.end();
    return encoder.finish();
  });
  const encoder = device.createCommandEncoder({ label: 'timing' });
  encoder.copyBufferToBuffer(source, 0, staging, 0, 4);
  commands.push(encoder.finish());
  const start = performance.now();
  for (const buffer of commands) device.queue.submit([buffer]);
  await gpu.orFail(staging.mapAsync(GPUMapMode.READ), watchdog);
  const elapsed = performance.now() - start;
  for (const buffer of [source, staging]) buffer.destroy();
  gpu.check();
  return elapsed;
}
