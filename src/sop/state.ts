import type { NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import { sameShape, showShape, type Tensor } from '../graph/tensor.js';
import type { Parameters } from '../nn/parameters.js';
import type { Elements, Replay } from '../plan/replay.js';
import { isLossScaleName } from './loss-scale.js';
import { isListName } from './neighbour-lists.js';
import { type NetworkShape, studentSpecs } from './networks.js';
import { TASK_NAMES } from './prototypes.js';
import type { TrainStep } from './step-shape.js';

/** A tensor of the training state under the name and shape that files give it. */
export interface StateEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly tensor: Tensor;
  /** A file may lack it, or hold it where it is not needed: it then has what it has at the start of a run. */
  readonly optional?: true;
}

/**
 * All that a step changes: `student.*`, `teacher.*`, `moment1.*`, `moment2.*` (timm's names and shapes), `memory.cls`,
 * `memory.patch` and their pointers, the lists of neighbours and the scale of the loss where there are such. Checkpoints and
 * `debug step` (which has no lists) hold exactly these.
 */
export function stateEntries(step: TrainStep, network: NetworkShape): StateEntry[] {
  const shapes = new Map(studentSpecs(network).map(({ name, shape }) => [name, shape]));
  const named = (prefix: string, parameters: Parameters): StateEntry[] =>
    [...parameters].map(([name, tensor]) => ({
      name: `${prefix}.${name}`,
      shape: shapes.get(name) ?? tensor.shape,
      tensor,
    }));
  const memory = TASK_NAMES.flatMap((name) => {
    const { rows, pointer, lists } = step.memory[name];
    const kept = lists ? [lists.index, lists.score, lists.length] : [];
    return [
      { name: `memory.${name}`, shape: rows.shape, tensor: rows },
      { name: `memory.${name}_pointer`, shape: pointer.shape, tensor: pointer },
      ...kept.map(optional),
    ];
  });
  const { lossScale } = step;
  const scaling = lossScale ? [lossScale.scale, lossScale.counts] : [];
  const [moment1, moment2] = step.moments;
  return [
    ...named('student', step.student),
    ...named('teacher', step.teacher),
    ...named('moment1', moment1),
    ...named('moment2', moment2),
    ...memory,
    ...scaling.map(optional),
  ];
}

const optional = (tensor: Tensor): StateEntry => ({ name: tensor.label, shape: tensor.shape, tensor, optional: true });

/** Whether some training has an optional entry of that name. */
export const isOptional = (name: string): boolean => isListName(name) || isLossScaleName(name);

/** Reads entries from the device, f32 or (pointers) i32. */
export async function readEntries(replay: Replay, entries: readonly StateEntry[]): Promise<NamedArray[]> {
  const arrays: NamedArray[] = [];
  for (const { name, shape, tensor } of entries) {
    const data = await replay.read(tensor);
    if (data instanceof Float32Array) arrays.push({ name, dtype: 'F32', shape, data });
    else arrays.push({ name, dtype: 'I32', shape, data: Int32Array.from(data) });
  }
  return arrays;
}

/** Elements of a file's tensor as those of `entry`. @throws SopError 65 naming tensor and shapes when they disagree */
export function elementsFor({ name, shape, tensor }: StateEntry, array: NamedArray, where: string): Elements {
  if (!sameShape(array.shape, shape)) {
    throw mismatch(where, name, `has shape ${showShape(array.shape)}, expected ${showShape(shape)}`);
  }
  if (tensor.dtype === 'f32') {
    if (array.dtype === 'F32') return array.data as Float32Array<ArrayBuffer>;
    throw mismatch(where, name, `is ${array.dtype}, expected F32`);
  }
  if (array.dtype === 'I32' || array.dtype === 'U32') return Uint32Array.from(array.data);
  throw mismatch(where, name, `is ${array.dtype}, expected I32`);
}

function mismatch(where: string, name: string, why: string): SopError {
  return new SopError(ExitCode.data, {
    what: 'tensor does not fit',
    where: `${where}, ${name}`,
    why: `it ${why}`,
    fix: 'check the settings against the file',
  });
}
