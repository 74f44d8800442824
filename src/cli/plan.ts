import type { Config } from '../config/schema.js';
import { dataShape, withStatistics } from '../engine/run.js';
import { targetOf } from '../gpu/device.js';
import { defaultTarget, type Target } from '../gpu/target.js';
import { BindingError, bindingLimit, mebibytes } from '../plan/binding-limit.js';
import { describePlan, si } from '../plan/report.js';
import { stepsPerEpoch } from '../sop/feed.js';
import { type DataShape, type Training, traceTraining } from '../sop/training.js';
import { besideTheStep } from './beside-memory.js';
import type { Outcome } from './command.js';
import { checkStatistics, openImages } from './open-images.js';
import { type CommonOptions, type ConfigOptions, configFrom } from './options.js';
import type { Printer } from './printer.js';
import { tellPlan } from './run-report.js';
import { table } from './table.js';

/**
 * `sop-gpu plan`: parameters, memory and work of a step under WebGPU's default limits, or those of `--adapter`. Opens no
 * device.
 */
export async function planCommand(options: ConfigOptions, common: CommonOptions, printer: Printer): Promise<Outcome> {
  const config = await configFrom(options);
  const target = await limitsOf(common.adapter, config);
  const { training, refusal } = planned(config, await shapeOfData(config, options, target, printer), target);
  const report = describePlan(training.plan, besideTheStep(training, Number.POSITIVE_INFINITY));
  const { undivided, shape } = training;
  tellPlan(printer, training, report);
  printer.line();
  const rows = report.work.families.map(({ family, nodes, flops, bytes }) => [family, nodes, si(flops), si(bytes)]);
  printer.lines(table(['work by kind', 'nodes', 'FLOP', 'B'], rows));
  printer.line();
  const limit = `${mebibytes(bindingLimit(target))} MiB a binding`;
  printer.line(
    common.adapter === undefined
      ? `limits: WebGPU's defaults, which every adapter has${target.f16 ? ', with shader-f16' : ''} (${limit}); --adapter plans for those of one`
      : `limits: those of ${target.name} (${limit})`,
  );
  printer.line(
    refusal
      ? `does not fit into these: ${refusal.complaint.where} (${refusal.complaint.why}); planned without limits`
      : `the step fits into these${undivided ? ', its images divided as said above' : ''}`,
  );
  const batches = shape.batches.map(({ images }) => images);
  const { batch_size } = config.train;
  const { accumulate } = config.optim;
  const { precision: used } = shape;
  const settings = { batch_size, accumulate };
  return { result: { ...report, precision: used, fits: refusal === null, batches, undivided, config: settings } };
}

/** Limits and kernels to plan for; without an adapter those of one that has what the precision needs. */
async function limitsOf(adapter: string | undefined, { train, model }: Config): Promise<Target> {
  if (adapter === undefined) return { ...defaultTarget, f16: train.precision === 'f16' };
  const { chooseAdapter } = await import('../node.js');
  return targetOf((await chooseAdapter(adapter, model.width)).adapter);
}

async function shapeOfData(
  config: Config,
  options: ConfigOptions,
  target: Target,
  printer: Printer,
): Promise<DataShape> {
  if (config.data.path === null) {
    printer.line('no --data: colour images that are uploaded batch by batch');
    const { mean, std } = config.data;
    return { channels: 3, mean: mean ?? [0, 0, 0], std: std ?? [1, 1, 1], residentBytes: null };
  }
  const { train } = await openImages(config.data.path, { onBadImage: config.data.on_bad_image }, printer);
  checkStatistics(config, train, options);
  stepsPerEpoch(train.count, config);
  return dataShape(await withStatistics(config, train), train, { target });
}

/** The plan for the target, or where no division of a batch fits into its bindings, one without limits, and why. */
function planned(
  config: Config,
  data: DataShape,
  target: Target,
): { readonly training: Training; readonly refusal: BindingError | null } {
  try {
    return { training: traceTraining(config, data, target), refusal: null };
  } catch (error) {
    if (!(error instanceof BindingError)) throw error;
    const unlimited = { ...target, name: 'a plan without limits', maxBindingBytes: 2 ** 40, maxBufferBytes: 2 ** 40 };
    return { training: traceTraining(config, data, unlimited), refusal: error };
  }
}
