import { readSafetensorsFile, writeSafetensorsFile } from '../data/node/files.js';
import type { NamedArray, SafetensorsFile } from '../data/safetensors.js';
import type { Gpu } from '../gpu/device.js';
import { debugStep, NonFiniteStep } from '../sop/debug-step.js';
import { noHalf } from '../sop/setup.js';
import type { Outcome } from './command.js';
import { openDevice } from './open-device.js';
import type { CommonOptions } from './options.js';
import { checkCreatable } from './output-file.js';
import type { Printer } from './printer.js';
import type { StopRequest } from './signals.js';

export interface DebugOptions {
  readonly input: string;
  readonly output: string;
}

/** `sop-gpu debug step`: one training step with everything given. */
export async function debugStepCommand(
  options: DebugOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const compute = (gpu: Gpu, { tensors, metadata }: SafetensorsFile) => {
    if (metadata.get('train.precision') === 'f16' && !gpu.target.f16) printer.warn(noHalf(gpu.target));
    return debugStep(gpu, tensors, metadata, options.input);
  };
  const { arrays, adapter } = await throughFile(options, common, stop, compute);
  const value = (name: string): number | null =>
    Number(arrays.find((array) => array.name === name)?.data[0] ?? Number.NaN);
  const [loss, lossCls, lossPatch] = [value('loss'), value('loss_cls'), value('loss_patch')];
  printer.line(`loss ${loss}, cls ${lossCls}, patch ${lossPatch}, on ${adapter}`);
  printer.line(`${options.output}: ${arrays.length} tensors`);
  return { result: { loss, loss_cls: lossCls, loss_patch: lossPatch, tensors: arrays.length, adapter } };
}

/** `sop-gpu debug augment`: views of given images with given draws. */
export async function debugAugmentCommand(
  options: DebugOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const { debugAugment } = await import('./debug-augment.js');
  const compute = (gpu: Gpu, { tensors, metadata }: SafetensorsFile) => debugAugment(gpu, tensors, metadata);
  const { arrays, adapter } = await throughFile(options, common, stop, compute);
  const shape = arrays[0]?.shape ?? [];
  printer.line(`${options.output}: views ${shape.join(' x ')}, on ${adapter}`);
  return { result: { views: shape, adapter } };
}

/** Reads the input, computes on the device, writes the output; fails before the work where it could not be written. */
async function throughFile(
  { input, output }: DebugOptions,
  common: CommonOptions,
  stop: StopRequest,
  compute: (gpu: Gpu, file: SafetensorsFile) => Promise<readonly NamedArray[]>,
): Promise<{ readonly arrays: readonly NamedArray[]; readonly adapter: string }> {
  await checkCreatable(output);
  const file = await readSafetensorsFile(input);
  const gpu = await openDevice(common, stop);
  try {
    const write = (arrays: readonly NamedArray[]): Promise<void> =>
      writeSafetensorsFile(output, arrays, [['adapter', gpu.target.name]]);
    const arrays = await compute(gpu, file).catch(async (error: unknown) => {
      // What was computed up to it is what one looks at to find the cause.
      if (error instanceof NonFiniteStep) await write(error.results);
      throw error;
    });
    await write(arrays);
    return { arrays, adapter: gpu.target.name };
  } finally {
    await gpu.close();
  }
}
