import type { Config } from '../config/schema.js';
import { ExitCode, SopError } from '../errors.js';
import { defaultTarget, type Target } from '../gpu/target.js';
import { mebibytes } from '../plan/plan.js';
import { describePlan, type PlanReport, planSummary, si } from '../plan/report.js';
import { type DataShape, traceTraining } from '../sop/training.js';
import type { Outcome } from './command.js';
import { type ConfigOptions, configFrom } from './options.js';
import type { Printer } from './printer.js';
import { table } from './table.js';
import { dataShape, openImages, withStatistics } from './train.js';

/** Kinds of tensors that the command lists when they exceed a limit. */
const SHOWN = 8;

/** `sop-gpu plan`: parameters, memory and work of a step under WebGPU's default limits. Opens no device. */
export async function planCommand(options: ConfigOptions, printer: Printer): Promise<Outcome> {
  const config = await configFrom(options);
  const data = await shapeOfData(config, printer);
  const { report, refusal } = planned(config, data);
  const { work, beyondDefaultLimit } = report;
  for (const line of planSummary(report)) printer.line(line);
  printer.line();
  const rows = work.families.map(({ family, nodes, flops, bytes }) => [family, nodes, si(flops), si(bytes)]);
  for (const line of table(['work by kind', 'nodes', 'FLOP', 'B'], rows)) printer.line(line);
  printer.line();
  printer.line(
    `limits: WebGPU's defaults, which every adapter has (${mebibytes(defaultTarget.maxBindingBytes)} MiB a binding); most adapters have more: sop-gpu doctor`,
  );
  if (refusal) {
    printer.line(
      `does not fit into these: ${refusal.complaint.where} (${refusal.complaint.why}); planned without limits:`,
    );
    for (const line of table(['largest, MiB', 'how many', 'tensor'], alike(beyondDefaultLimit).slice(0, SHOWN)))
      printer.line(line);
  } else {
    printer.line('nothing exceeds them');
  }
  return {
    result: {
      ...report,
      fits_default_limits: refusal === null,
      config: { batch_size: config.train.batch_size, accumulate: config.optim.accumulate },
    },
  };
}

/** Tensors that differ only in the numbers of block and node, as one row: MiB of the largest, how many, one of them. */
function alike(tensors: PlanReport['beyondDefaultLimit']): [string, number, string][] {
  const kinds = new Map<string, [string, number, string]>();
  for (const { label, bytes } of tensors) {
    const kind = label.replace(/\d+/g, '#');
    const known = kinds.get(kind);
    kinds.set(kind, known ? [known[0], known[1] + 1, known[2]] : [mebibytes(bytes), 1, label]);
  }
  return [...kinds.values()];
}

async function shapeOfData(config: Config, printer: Printer): Promise<DataShape> {
  if (config.data.path === null) {
    printer.line('no --data: colour images that are uploaded batch by batch');
    const { mean, std } = config.data;
    return { channels: 3, mean: mean ?? [0, 0, 0], std: std ?? [1, 1, 1], residentBytes: null };
  }
  const { train } = await openImages(config.data.path, config, printer);
  return dataShape(await withStatistics(config, train), train, { target: defaultTarget });
}

/** The plan under the default limits, or where one is exceeded, without limits, and what was. */
function planned(config: Config, data: DataShape): { report: PlanReport; refusal: SopError | null } {
  try {
    return { report: describePlan(traceTraining(config, data, defaultTarget).plan), refusal: null };
  } catch (error) {
    if (!(error instanceof SopError) || error.exitCode !== ExitCode.unavailable) throw error;
    const unlimited: Target = {
      ...defaultTarget,
      name: 'a plan without limits',
      maxBindingBytes: 2 ** 40,
      maxBufferBytes: 2 ** 40,
    };
    return { report: describePlan(traceTraining(config, data, unlimited).plan), refusal: error };
  }
}
