import { traceEncoder } from '../eval/encoder.js';
import { encoderBatch } from '../eval/features.js';
import { bytes } from '../graph/tensor.js';
import { stateEntries } from '../sop/state.js';
import type { Training } from '../sop/training.js';

/**
 * Node, the driver and its compiled shaders, decoded images: what a run took beside all that is counted, at ViT-S and at
 * the smallest preset (300 and 420 MiB on lavapipe).
 */
const PROGRAM_BYTES = 350 * 2 ** 20;

/** The name of the group of the state that is read back for a checkpoint. */
export const HOST_STATE = 'host: state, as it is saved';

/**
 * Bytes that a run needs beside its step, by the names of the groups in which `describePlan` counts them: the encoder that
 * evaluates, on the device, and the host's. On adapters of the CPU all of it is one memory.
 *
 * @param images of the gallery and queries
 */
export function besideTheStep({ shape, step, data, plan }: Training, images: number): Record<string, number> {
  const { network } = shape;
  const encoder = traceEncoder(network, encoderBatch(network.vit, plan.target, images), plan.target);
  return {
    evaluation: encoder.plan.buffers.reduce((sum, buffer) => sum + buffer.bytes, 0),
    [HOST_STATE]: stateEntries(step, network).reduce((sum, { tensor }) => sum + bytes(tensor), 0),
    'host: program and images': PROGRAM_BYTES + (data.residentBytes ?? 0),
  };
}
