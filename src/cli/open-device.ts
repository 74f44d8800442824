import type { Gpu } from '../gpu/device.js';
import { openNodeGpu } from '../node.js';
import type { CommonOptions } from './options.js';
import { Interrupted, type StopRequest } from './signals.js';

/**
 * For the device of a command that has nothing to save: from now on a signal lets it fail with `Interrupted`, so that the
 * command ends where it next waits for the device.
 */
export function failAtSignal(stop: StopRequest): AbortSignal {
  const interrupt = new AbortController();
  stop.begin(() => interrupt.abort(new Interrupted()));
  return interrupt.signal;
}

/** Opens such a device. @param modelWidth as in `NodeGpuOptions` */
export function openDevice({ adapter, quiet }: CommonOptions, stop: StopRequest, modelWidth?: number): Promise<Gpu> {
  return openNodeGpu({ quiet, adapter, modelWidth, signal: failAtSignal(stop) });
}
