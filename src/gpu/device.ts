import { ExitCode, SopError, usedAfter } from '../errors.js';
import { isIntegrated, type Target, targetKind } from './target.js';
import { HangError, type Watchdog, type WatchdogLimits } from './watchdog.js';

/** What an adapter says of itself. Strings may be empty: browsers hide some. */
export interface AdapterDescription {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  /** In Node the driver's name and version. */
  readonly description: string;
  /** True for adapters that compute on the CPU, where the implementation says so. */
  readonly fallback: boolean;
  readonly features: readonly string[];
}

/** An open device. Everything that touches WebGPU goes through one of these. */
export interface Gpu {
  readonly device: GPUDevice;
  readonly target: Target;
  readonly description: AdapterDescription;
  /** Rejects as soon as an uncaptured error or device loss happened; never resolves. Safe to leave unobserved. */
  readonly failed: Promise<never>;
  /**
   * Waits for `work` of the device, or rejects as `failed` does, since a lost device may never answer. For waits that come
   * again and again: `Promise.race` with `failed`, which does not settle, would keep something of each of them for ever. A
   * device that lets `watchdog` wait too long has failed (`HangError`, exit 75).
   */
  orFail<T>(work: Promise<T>, watchdog?: Watchdog): Promise<T>;
  /**
   * Call after every wait: what the device returned before is only worth something if this is silent.
   * @throws SopError the first GPU error (exit 70) or device loss (exit 75), if there was one; the reason of an abort; 64
   * after `close`.
   */
  check(): void;
  /** Waits for the work in flight, then frees the device, unless it was given open. May be called twice. */
  close(): Promise<void>;
  /** How long an answer is waited for; by the work of a step where left out. */
  readonly patience?: WatchdogLimits;
}

/** How `openGpu` opens a device. */
export interface OpenOptions {
  /** When it aborts, the device fails with its reason: whatever waits for it ends, and can close it. */
  readonly signal?: AbortSignal;
}

/** Milliseconds within which a browser tells that the device was lost, once work of it was refused. */
const LOSS_TOLD_MS = 500;

const wantedFeatures = ['subgroups', 'shader-f16', 'timestamp-query'] as const;

/** What an adapter, or the device that somebody opened on it, says of itself. */
export type AdapterFacts = Pick<GPUAdapter, 'info' | 'limits' | 'features'>;

/** Reads what an adapter says of itself; opens nothing. */
export function describeAdapter(adapter: AdapterFacts): AdapterDescription {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const features = [...adapter.features].sort();
  return { vendor, architecture, device, description, fallback: isFallbackAdapter ?? false, features };
}

/** What a plan needs to know of an adapter, its limits as a device opened by `openGpu` will have them. */
export function targetOf(adapter: AdapterFacts): Target {
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const { limits, features } = adapter;
  const words = `${vendor} ${architecture} ${device} ${description}`;
  const kind = targetKind(words);
  // Software adapters have their best name in the description; that of a GPU's driver does not name the GPU.
  const ownName = kind === 'gpu' ? [device, description].filter(Boolean).join(', ') : description || device;
  const integrated = kind === 'gpu' && isIntegrated(words);
  const fixedSubgroups = features.has('subgroups') && subgroupMinSize === subgroupMaxSize;
  // Lavapipe computes on as many lanes as it is told, and other sums on other numbers of them.
  const lanes = kind === 'lavapipe' && fixedSubgroups ? `, ${subgroupMinSize} lanes` : '';
  return {
    name: ownName + lanes || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter',
    kind,
    integrated,
    subgroupSize: fixedSubgroups ? (subgroupMinSize ?? 0) : 0,
    f16: features.has('shader-f16'),
    timestamps: features.has('timestamp-query'),
    maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
    maxWorkgroupsPerDimension: limits.maxComputeWorkgroupsPerDimension,
    sharedBytes: limits.maxComputeWorkgroupStorageSize,
    maxStorageBuffers: limits.maxStorageBuffersPerShaderStage,
    maxBindingBytes: limits.maxStorageBufferBindingSize,
    maxBufferBytes: limits.maxBufferSize - (limits.maxBufferSize % 4), // lavapipe says 2^32 - 1; sizes are multiples of 4
    // Below 100 ms at 50 and at 200 GFLOP/s: drivers of some integrated GPUs end what takes half a second.
    maxDispatchFlops: integrated ? 5e9 : 2e10,
  };
}

/** Dawn's null backend accepts everything and computes nothing: results would be garbage without any error. */
function refuseNullBackend(adapter: AdapterFacts): void {
  const { vendor, architecture, device, description } = adapter.info;
  if (!/\bnull\b/i.test(`${vendor} ${architecture} ${device} ${description}`)) return;
  throw new SopError(ExitCode.unavailable, {
    what: 'the null backend is no adapter',
    where: 'adapter',
    why: 'it accepts all work and computes none of it',
    fix: 'unset DAWNNODE_BACKEND, or choose another adapter',
  });
}

/** All limits the adapter offers: kernels plan for the defaults and use more where the target says there is more. */
function allLimits(adapter: GPUAdapter): Record<string, number> {
  const limits: Record<string, number> = {};
  for (const key in adapter.limits) {
    const value: unknown = adapter.limits[key as keyof GPUSupportedLimits];
    if (typeof value === 'number') limits[key] = value;
  }
  return limits;
}

function gpuError(error: GPUError): SopError {
  return new SopError(ExitCode.internal, {
    what: `GPU ${error.constructor.name.replace(/^GPU|Error$/g, '').toLowerCase() || 'unknown'} error`,
    where: 'device',
    why: error.message.trim(),
    fix: 'nothing computed since can be trusted; please report this message with the command that led to it',
  });
}

function deviceLost(info: GPUDeviceLostInfo): SopError {
  return new SopError(ExitCode.tryAgain, {
    what: 'the device was lost',
    where: 'device',
    why: info.message.trim() || info.reason || 'the driver gave no reason',
    fix: 'start again; a training run goes on from its last checkpoint with --resume',
  });
}

/** @throws SopError 69 without an adapter, and where it opens no device. */
async function requestDevice(from: GPU | GPUAdapter): Promise<[GPUDevice, AdapterFacts]> {
  const adapter = 'requestAdapter' in from ? await from.requestAdapter({ powerPreference: 'high-performance' }) : from;
  if (!adapter) {
    throw new SopError(ExitCode.unavailable, {
      what: 'no WebGPU adapter',
      where: 'adapter',
      why: 'this browser or system offers none',
      fix: 'try a browser with WebGPU switched on, or see `sop-gpu doctor`',
    });
  }
  refuseNullBackend(adapter);
  const { name } = targetOf(adapter);
  const descriptor = {
    label: `sop-gpu on ${name}`,
    requiredFeatures: wantedFeatures.filter((feature) => adapter.features.has(feature)),
    requiredLimits: allLimits(adapter),
  };
  const device = await adapter.requestDevice(descriptor).catch((cause: unknown) => {
    throw new SopError(
      ExitCode.unavailable,
      { what: 'the adapter opens no device', where: name, why: String(cause), fix: 'try another --adapter' },
      { cause },
    );
  });
  return [device, adapter];
}

/**
 * Opens a device with all limits and the optional features we use, and makes every error of it fatal: WebGPU drops a
 * submit that holds one bad resource and reads zeros back, so going on after an error gives wrong numbers quietly.
 *
 * @param from `navigator.gpu`, Dawn's GPU object, an adapter already chosen, or an open device, which is used with the
 * limits and features that it was opened with and stays open after `close`.
 * @throws SopError 69 without an adapter, on the null backend, and where the adapter opens no device.
 */
export async function openGpu(from: GPU | GPUAdapter | GPUDevice, options: OpenOptions = {}): Promise<Gpu> {
  const borrowed = 'queue' in from;
  const [device, adapter] = borrowed
    ? ([from, { info: from.adapterInfo, limits: from.limits, features: from.features }] as const)
    : await requestDevice(from);
  refuseNullBackend(adapter);
  const description = describeAdapter(adapter);
  const target = targetOf(adapter);

  let firstError: Error | undefined;
  let closing = false;
  let reject: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, fail) => {
    reject = fail;
  });
  failed.catch(() => {}); // the error is also kept for check(): nobody has to listen
  const waiting = new Set<(error: Error) => void>();
  const giveUpWaiting = (error: Error): void => {
    firstError ??= error;
    for (const giveUp of waiting) giveUp(firstError);
    waiting.clear();
  };
  const fail = (error: Error) => {
    reject(error);
    giveUpWaiting(error);
  };
  const uncaptured = (event: GPUUncapturedErrorEvent): void => {
    event.preventDefault(); // ours to report, once
    fail(gpuError(event.error));
  };
  device.addEventListener('uncapturederror', uncaptured);
  void device.lost.then((info) => {
    if (!closing) fail(deviceLost(info));
  });
  const abort = (): void => fail(options.signal?.reason as Error);
  if (options.signal?.aborted) abort();
  else options.signal?.addEventListener('abort', abort, { once: true });

  return {
    device,
    target,
    description,
    failed,
    orFail: (work, watchdog) =>
      new Promise((resolve, giveUp) => {
        if (firstError) giveUp(firstError);
        waiting.add(giveUp);
        const unwatch = watchdog?.watch(fail);
        const settle = () => {
          waiting.delete(giveUp);
          unwatch?.();
        };
        // Browsers refuse what a lost device still owed before they tell of the loss: that is the reason worth hearing.
        const refused = async (cause: unknown): Promise<void> => {
          await new Promise((wake) => setTimeout(wake, LOSS_TOLD_MS));
          giveUp(cause);
        };
        work.then(resolve, refused).then(settle, settle);
      }),
    check() {
      if (firstError) throw firstError;
    },
    async close() {
      if (closing) return;
      closing = true;
      if (firstError instanceof HangError) return;
      // destroy() blocks the thread while work is in flight, so let it end first; a lost device has none left.
      await device.queue.onSubmittedWorkDone().catch(() => {});
      options.signal?.removeEventListener('abort', abort);
      // What comes of a device that stays open is its owner's again.
      device.removeEventListener('uncapturederror', uncaptured);
      giveUpWaiting(usedAfter('the engine', 'close'));
      if (borrowed) return;
      await new Promise((wake) => setTimeout(wake)); // what was answered just now is still to be read
      device.destroy();
    },
  };
}
