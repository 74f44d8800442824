import type { Config } from '../config/schema.js';
import { perChannel } from '../data/statistics.js';
import { keepTuning, makeTuningFolder, readTuning } from '../node/tuning.js';
import { digits } from '../numbers.js';
import { type TunedCall, tunePlan } from '../plan/tune.js';
import { type DataShape, describePrecision, traceTraining } from '../sop/training.js';
import type { Outcome } from './command.js';
import { openDevice } from './open-device.js';
import { type CommonOptions, type ConfigOptions, configFrom } from './options.js';
import { checkCreatable } from './output-file.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import type { StopRequest } from './signals.js';
import { table } from './table.js';

/**
 * `sop-gpu tune`: times the variants of every kernel of a training step at the step's own shapes, and keeps the winners for
 * this adapter, its driver and this version of the package, for all commands that come after.
 */
export async function tuneCommand(
  options: ConfigOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const config = await configFrom(options);
  const gpu = await openDevice(common, stop, config.model.width);
  const progress = new CountProgress('kernels at their shapes', printer);
  try {
    printer.line(`adapter  ${gpu.target.name}`);
    const file = await makeTuningFolder(gpu.description);
    await checkCreatable(file);
    const found = new Map<string, TunedCall>();
    try {
      // Grey and colour images give different first layers; all else is found twice and timed once.
      for (const channels of [3, 1] as const) {
        const training = traceTraining(config, imagesOf(config, channels), gpu.target);
        const precision = describePrecision(training);
        if (precision?.refused && channels === 3) printer.warn(precision.text);
        await tunePlan(gpu, training.plan, found, (done, total) => progress.update(done, total));
      }
    } finally {
      progress.stop();
      // Also where it was stopped: a large model takes many minutes.
      if (found.size > 0) await keepTuning(gpu.description, found);
    }
    const changed = [...found].filter(([, { variant, built_in }]) => variant !== built_in);
    const rows = changed.map(([key, { built_in, built_in_ms, variant, ms }]) => [
      ...[key, built_in, digits(built_in_ms), variant, digits(ms)],
    ]);
    printer.lines(table(['kernel at its shape', 'built in', 'ms', 'fastest', 'ms'], rows));
    printer.line(`${found.size} timed, ${changed.length} faster than as built in; kept in ${file}`);
    const { driver, engine } = readTuning(gpu.description);
    return { result: { adapter: gpu.target.name, driver, engine, file, calls: found } };
  } finally {
    progress.stop();
    await gpu.close();
  }
}

/** Images that are uploaded batch by batch: what stays on the device changes no kernel that has variants. */
function imagesOf({ data: { mean, std } }: Config, channels: 1 | 3): DataShape {
  const given = (values: readonly number[] | null): number[] => perChannel(values ?? [0.5], channels);
  return { channels, mean: given(mean), std: given(std), residentBytes: null };
}
