import { isMainThread } from 'node:worker_threads';
import { create, globals } from 'webgpu';
import { ExitCode, SopError } from './errors.js';
import { describeAdapter, type Gpu, openGpu, targetOf } from './gpu/device.js';
import { targetKind } from './gpu/target.js';
import { howToGetAdapter, swiftShaderCommand } from './node/advice.js';
import { withoutChatter } from './node/driver-chatter.js';
import { pollPatiently } from './node/patient-polling.js';
import { keepShaders } from './node/shader-cache.js';
import { spreadWorkers } from './node/spread-workers.js';
import { tunedVariants } from './node/tuning.js';
import { findDrivers, findLoader, prepareSwiftShader } from './node/vulkan.js';
import { widenVectors } from './node/wide-vectors.js';

export * from './index.js';

/**
 * Every object that Dawn's create() returned, for the life of the process: when one is collected, the next call to any
 * adapter or device made from it crashes. Node still exits by itself.
 */
const instances: GPU[] = [];

/** Dawn rounds the device's times to 65.536 us, for the sake of web pages that must not spy on each other. */
const EXACT_TIMES = 'disable-dawn-features=timestamp_quantization';

function createInstance(options: string[] = []): GPU {
  Object.assign(globalThis, globals); // GPUBufferUsage and its like, which browsers have anyway
  pollPatiently();
  widenVectors();
  keepShaders();
  const instance = create([EXACT_TIMES, ...options]);
  instances.push(instance);
  return instance;
}

/** Vulkan reads its driver list anew with every instance: naming SwiftShader's for a moment is enough. */
async function withDriver<T>(icd: string | undefined, body: () => Promise<T>): Promise<T> {
  if (!icd) return body();
  const before = { VK_ICD_FILENAMES: process.env['VK_ICD_FILENAMES'], VK_DRIVER_FILES: process.env['VK_DRIVER_FILES'] };
  Object.assign(process.env, { VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd });
  try {
    return await body();
  } finally {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

/** A worker_thread has an environment of its own, which Vulkan does not read: where that stands in the way, what to do. */
function sharedEnvironment(icd: string | undefined): string | undefined {
  return isMainThread || !icd ? undefined : 'start the worker with env: SHARE_ENV (of node:worker_threads)';
}

/** Without a loader or a driver Dawn would only print warnings of its own and find nothing. */
function vulkanCanStart(icd?: string): boolean {
  return (
    process.platform !== 'linux' || (findLoader() !== undefined && (icd !== undefined || findDrivers().length > 0))
  );
}

/** The adapter that Dawn prefers (hardware before software), or the one of that exact name. */
async function request(name?: string, icd?: string): Promise<GPUAdapter | null> {
  if (!vulkanCanStart(icd)) return null;
  const instance = createInstance(name === undefined ? [] : [`adapter=${name}`]);
  return withDriver(icd, () => withoutChatter(() => instance.requestAdapter({ powerPreference: 'high-performance' })));
}

/** The names of all adapters; Dawn tells them only in the error for a name that does not exist. */
async function adapterNames(icd?: string): Promise<string[]> {
  try {
    await request('list of all adapters, please', icd);
    return [];
  } catch (error) {
    const names = [...String(error).matchAll(/name: '(.*)'$/gm)].map((match) => match[1] as string);
    return names.filter((name) => !/^null/i.test(name));
  }
}

/** An adapter on this machine. */
export interface FoundAdapter {
  /** Dawn's name, or the adapter's own where it was not listed. */
  readonly name: string;
  readonly adapter: GPUAdapter;
  /** True for the SwiftShader that npm brings. */
  readonly bundled: boolean;
}

async function requestAll(icd?: string): Promise<FoundAdapter[]> {
  const found: FoundAdapter[] = [];
  for (const name of await adapterNames(icd)) {
    const adapter = await request(name, icd);
    if (adapter) found.push({ name, adapter, bundled: icd !== undefined });
  }
  return found;
}

/** All adapters, in the order of preference: hardware, installed software, the SwiftShader that npm brings. */
export async function listAdapters(): Promise<FoundAdapter[]> {
  const rank = ({ name, bundled }: FoundAdapter) => (bundled ? 2 : targetKind(name) === 'gpu' ? 0 : 1);
  const icd = prepareSwiftShader()?.icd;
  const found = [...(await requestAll()), ...(icd ? await requestAll(icd) : [])];
  return found.sort((a, b) => rank(a) - rank(b));
}

/** Does what the user called an adapter fit this one? */
function fits(wanted: string, { name, adapter }: FoundAdapter): boolean {
  const { vendor, architecture, device, description } = describeAdapter(adapter);
  const words = `${name}\n${vendor}\n${architecture}\n${device}\n${description}`.toLowerCase();
  return words.includes(wanted) || (wanted === 'lavapipe' && targetKind(words) === 'lavapipe');
}

/** @param where what named it, for the error. */
async function findByName(name: string, where: string): Promise<FoundAdapter> {
  const wanted = name.toLowerCase();
  const icd = prepareSwiftShader()?.icd;
  // The default of either driver list first, in the likelier order: it is nearly always what was asked for, and listing
  // all adapters starts every driver twice.
  for (const driver of targetKind(name) === 'swiftshader' ? [icd, undefined] : [undefined, icd]) {
    const adapter = await request(undefined, driver);
    const found = adapter && { name: adapter.info.device, adapter, bundled: driver !== undefined };
    if (found && fits(wanted, found)) return found;
  }
  const all = await listAdapters();
  const found = all.find((one) => fits(wanted, one));
  if (found) return found;
  const advice =
    targetKind(name) !== 'swiftshader' ? howToGetAdapter() : (sharedEnvironment(icd) ?? swiftShaderCommand());
  throw new SopError(ExitCode.unavailable, {
    what: 'no such adapter',
    where,
    why: all.length ? `there are: ${all.map((one) => one.name).join('; ')}` : 'there is no adapter at all',
    fix: `${all.length ? 'name one of these, or ' : ''}${advice}`,
  });
}

async function findBest(): Promise<FoundAdapter> {
  const installed = await request();
  if (installed) return { name: installed.info.device, adapter: installed, bundled: false };
  const swiftShader = prepareSwiftShader();
  const bundled = swiftShader && (await request(undefined, swiftShader.icd));
  if (bundled) return { name: bundled.info.device, adapter: bundled, bundled: true };
  const loader = swiftShader && !findLoader();
  const advice = sharedEnvironment(swiftShader?.icd) ?? howToGetAdapter();
  throw new SopError(ExitCode.unavailable, {
    what: 'no GPU adapter',
    where: `${process.platform} ${process.arch}`,
    why: loader ? 'there is no Vulkan loader (libvulkan.so.1)' : 'neither a GPU driver nor a software one was found',
    fix: loader ? `start node with LD_LIBRARY_PATH=${swiftShader.folder}, or ${advice}` : advice,
  });
}

/** Which adapter of this machine `openNodeGpu` opens, and how. */
export interface NodeGpuOptions {
  /**
   * Part of the adapter's name, upper or lower case; `lavapipe`, `llvmpipe` and `swiftshader` always work where these
   * exist. Without it the environment's `SOP_GPU_ADAPTER` counts, and without that the best adapter is taken.
   */
  readonly adapter?: string | undefined;
  /** Features of a token of the model that will be run, where that is known: lavapipe's lanes are chosen by it. */
  readonly modelWidth?: number | undefined;
  /** No line on stderr when the slow SwiftShader was taken for want of anything better. */
  readonly quiet?: boolean | undefined;
  /** As of `openGpu`. */
  readonly signal?: AbortSignal;
}

/** An adapter and why it is the one to use. */
export interface ChosenAdapter extends FoundAdapter {
  /** Why this one, for people. */
  readonly reason: string;
}

/**
 * The adapter asked for, or the best there is: hardware, then installed software (lavapipe), then the SwiftShader that
 * npm brings. `modelWidth` as in `NodeGpuOptions`.
 * @throws SopError 69 where there is none, or none of that name.
 */
export async function chooseAdapter(asked?: string, modelWidth?: number): Promise<ChosenAdapter> {
  widenVectors(modelWidth);
  const name = asked || process.env['SOP_GPU_ADAPTER'];
  if (name) {
    const reason = asked ? `--adapter ${name}` : `SOP_GPU_ADAPTER=${name}`;
    return { ...(await findByName(name, reason)), reason };
  }
  const best = await findBest();
  if (best.bundled)
    return { ...best, reason: 'no GPU and no installed software adapter: the SwiftShader that npm brings' };
  const software = targetOf(best.adapter).kind !== 'gpu';
  return { ...best, reason: software ? 'no GPU: the installed software adapter' : 'the GPU that the system prefers' };
}

/**
 * Opens the adapter that `chooseAdapter` takes. In a worker_thread SwiftShader needs `env: SHARE_ENV`.
 * @throws SopError 69 where there is none, or none of that name.
 */
export async function openNodeGpu(options: NodeGpuOptions = {}): Promise<Gpu> {
  const { adapter, bundled } = await chooseAdapter(options.adapter, options.modelWidth);
  const asked = options.adapter || process.env['SOP_GPU_ADAPTER'];
  if (bundled && !asked && !options.quiet) {
    console.error(
      `sop-gpu: no GPU found: computing on the CPU with SwiftShader. For a faster adapter ${howToGetAdapter()}`,
    );
  }
  const gpu = await openGpu(adapter, options.signal && { signal: options.signal });
  if (gpu.target.kind === 'lavapipe') spreadWorkers();
  return withTuning(gpu);
}

/** The device with the variants that `sop-gpu tune` found for it, if it did. */
function withTuning(gpu: Gpu): Gpu {
  const tuned = tunedVariants(gpu.description);
  return tuned.size === 0 ? gpu : { ...gpu, target: { ...gpu.target, tuned } };
}
