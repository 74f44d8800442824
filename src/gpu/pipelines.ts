import { ExitCode, reasonOf, SopError } from '../errors.js';
import type { Kernel } from '../graph/kernel.js';
import type { Gpu } from './device.js';

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Pipelines under way at once: more than any machine compiles in parallel, few enough to be waited for. */
const IN_FLIGHT = 8;

/** What tells kernels apart: a source may have several entry points, and its bindings be declared in several ways. */
export const kernelKey = ({ entry, bindings, params, scalars, source }: Kernel): string =>
  [entry, ...bindings.map(({ access }) => access), params.length > 0, scalars, source].join();

/**
 * One pipeline for each different kernel, by its `kernelKey`, compiled in parallel; those that the device has already are taken
 * again. A device that fails, and what `progress` throws, end it, once nothing is under way any more: a process that ends in
 * the middle of a compilation crashes.
 * @throws SopError 70 with the shader's name, line and text when one does not compile
 */
export async function createPipelines(
  gpu: Gpu,
  kernels: readonly Kernel[],
  progress?: (done: number, total: number) => void,
): Promise<Map<string, Pipeline>> {
  const byKey = new Map(kernels.map((kernel) => [kernelKey(kernel), kernel]));
  const waiting = [...byKey].reverse();
  const made = new Map<string, Pipeline>();
  const makeThem = async (): Promise<void> => {
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const [key, kernel] = next;
      made.set(key, await pipelineOf(gpu, key, kernel));
      gpu.check();
      progress?.(made.size, byKey.size);
    }
  };
  const endings = await Promise.allSettled(
    Array.from({ length: IN_FLIGHT }, () =>
      makeThem().catch((error: unknown) => {
        waiting.length = 0;
        throw error;
      }),
    ),
  );
  for (const ending of endings) if (ending.status === 'rejected') throw ending.reason;
  return made;
}

/** Pipelines of a device for as long as it lives: a kernel takes a software adapter up to seconds to compile. */
const pipelines = new WeakMap<GPUDevice, Map<string, Promise<Pipeline>>>();

function pipelineOf(gpu: Gpu, key: string, kernel: Kernel): Promise<Pipeline> {
  const known = pipelines.get(gpu.device) ?? new Map<string, Promise<Pipeline>>();
  pipelines.set(gpu.device, known);
  const found = known.get(key);
  if (found) return found;
  const made = createPipeline(gpu, kernel);
  known.set(key, made);
  // What failed is tried again: it may have been for want of memory.
  made.catch(() => known.delete(key));
  return made;
}

async function createPipeline({ device }: Gpu, kernel: Kernel): Promise<Pipeline> {
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: kernel.label, code: kernel.source });
  const scope = device.popErrorScope();
  const messages = (await module.getCompilationInfo()).messages.filter(({ type }) => type === 'error');
  const problem = await scope;
  const [first] = messages;
  if (first) throw shaderError(kernel, first);
  if (problem) throw failed(kernel, problem.message);
  const layout = device.createBindGroupLayout({ label: kernel.label, entries: layoutEntries(kernel) });
  try {
    const pipeline = await device.createComputePipelineAsync({
      label: kernel.label,
      layout: device.createPipelineLayout({ label: kernel.label, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: kernel.entry },
    });
    return { pipeline, layout };
  } catch (error) {
    throw failed(kernel, reasonOf(error));
  }
}

function layoutEntries({ bindings, params, scalars }: Kernel): GPUBindGroupLayoutEntry[] {
  const visibility = GPUShaderStage.COMPUTE;
  const entries: GPUBindGroupLayoutEntry[] = bindings.map(({ access }, binding) => ({
    binding,
    visibility,
    buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' },
  }));
  if (params.length > 0) entries.push({ binding: bindings.length, visibility, buffer: { type: 'uniform' } });
  if (scalars) entries.push({ binding: bindings.length + 1, visibility, buffer: { type: 'uniform' } });
  return entries;
}

/** Points at the file that a person edits: shaders/<op>.wgsl.ts, the line of its WGSL or its binding table, the text. */
function shaderError(kernel: Kernel, { lineNum, linePos, message }: GPUCompilationMessage): SopError {
  const file = `shaders/${kernel.label.split('.')[0]}.wgsl.ts`;
  const text = kernel.source.split('\n')[lineNum - 1]?.trim() ?? '';
  const line = lineNum - kernel.headerLines;
  const place = line > 0 ? `line ${line} of its WGSL, column ${linePos}` : 'what its bindings and params declare';
  const where = `${file}, ${kernel.entry}, ${place}: ${text}`;
  return new SopError(ExitCode.internal, {
    what: 'shader does not compile',
    where,
    why: message,
    fix: 'correct the shader',
  });
}

function failed(kernel: Kernel, message: string): SopError {
  return new SopError(ExitCode.internal, {
    what: 'pipeline cannot be made',
    where: kernel.label,
    why: message,
    fix: 'report this with the output of sop-gpu doctor',
  });
}
