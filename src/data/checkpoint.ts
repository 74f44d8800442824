import { ExitCode, SopError } from '../errors.js';
import { type NamedArray, printable, shortList } from './dtype.js';
import type { SafetensorsFile } from './safetensors.js';

/** Raised when older programs could misread what newer ones write; `checkFormat` accepts this one and older. */
const checkpointFormat = 1;

const formatKey = 'sop-gpu.checkpoint';
const stepKey = 'step';

/** The state of a run after `step` steps. */
export interface Checkpoint extends SafetensorsFile {
  readonly step: number;
}

/** The metadata of a checkpoint: the caller's, and what `readCheckpoint` needs. */
export function checkpointMetadata(step: number, metadata: Iterable<readonly [string, string]>): Map<string, string> {
  return new Map([...metadata, [formatKey, String(checkpointFormat)], [stepKey, String(step)]]);
}

/** The step of a checkpoint, from its metadata. @throws SopError 65 if it is none, or of a newer program */
export function stepOf(metadata: ReadonlyMap<string, string>, where: string): number {
  const format = metadata.get(formatKey);
  const step = Number(metadata.get(stepKey) ?? Number.NaN);
  if (format === undefined || !/^\d+$/.test(format) || !Number.isSafeInteger(step) || step < 0) {
    throw unusableWeights(
      where,
      'it has no format version and step of sop-gpu in its metadata',
      'give a checkpoint of a run',
    );
  }
  if (isNewer(metadata)) {
    throw unusableWeights(
      where,
      `it was written by a newer sop-gpu (format ${format}, this one reads up to ${checkpointFormat})`,
      'update sop-gpu',
    );
  }
  return step;
}

/** Whether a newer program wrote it: then it is not damaged, and nothing may be put in its place. */
export function isNewer(metadata: ReadonlyMap<string, string>): boolean {
  return Number(metadata.get(formatKey)) > checkpointFormat;
}

/**
 * Takes a file that was read as a checkpoint.
 *
 * @throws SopError 65 if it is none, of a newer program, or has an f32 value that is not finite, naming the tensor
 */
export function readCheckpoint(file: SafetensorsFile, where: string): Checkpoint {
  const step = stepOf(file.metadata, where);
  for (const { name, dtype, data } of file.tensors.values()) {
    if (dtype === 'F32') checkFinite(name, data, where, 'use an earlier checkpoint');
  }
  return { ...file, step };
}

/** @throws SopError (65) naming tensor and element for NaN or infinity */
export function checkFinite(name: string, values: Float32Array, where: string, fix: string): void {
  const index = firstNonFinite(values);
  if (index < 0) return;
  throw unusableWeights(where, `tensor ${printable(name)} holds ${values[index]} at element ${index}`, fix);
}

/** Index of the first NaN or infinity, or -1. By its bits, as on the device. */
export function firstNonFinite(values: Float32Array): number {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return bits.findIndex((word) => (word & 0x7f800000) === 0x7f800000);
}

/**
 * Compares tensors by name and shape with what a model needs.
 *
 * @throws SopError 65 listing what is missing, unexpected and of another shape
 */
export function expectTensors(
  tensors: ReadonlyMap<string, Pick<NamedArray, 'shape'>>,
  expected: ReadonlyMap<string, readonly number[]>,
  where: string,
): void {
  const missing = [...expected.keys()].filter((name) => !tensors.has(name));
  const unexpected = [...tensors.keys()].filter((name) => !expected.has(name));
  const misshaped = [...expected].flatMap(([name, shape]) => {
    const got = tensors.get(name)?.shape;
    return got && got.join() !== shape.join() ? `${printable(name)} (expected [${shape}], got [${got}])` : [];
  });
  const complaints = [
    ['missing', missing.map(printable)],
    ['unexpected', unexpected.map(printable)],
    ['of another shape', misshaped],
  ] as const;
  const told = complaints
    .filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${what}: ${shortList(names)}`);
  if (told.length > 0) throw unusableWeights(where, told.join('; '), 'use the model settings that it was written with');
}

/** What refuses a file of weights (exit 65). */
export function unusableWeights(where: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.data, { what: 'weights cannot be used', where, why, fix });
}
