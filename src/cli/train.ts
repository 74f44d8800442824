import { flattenConfig } from '../config/keys.js';
import type { Layer } from '../config/layer.js';
import { resolveConfig } from '../config/resolve.js';
import type { Config } from '../config/schema.js';
import { formatConfig } from '../config/yaml.js';
import { checkCheckpoints, removeStaleTemporaries } from '../data/node/checkpoints.js';
import { readSafetensorsHeader } from '../data/node/files.js';
import { lockFolder } from '../data/node/run-lock.js';
import { dataShape, withStatistics } from '../engine/run.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { HangError } from '../gpu/watchdog.js';
import { openNodeGpu } from '../node.js';
import { counted } from '../numbers.js';
import { stepsPerEpoch } from '../sop/feed.js';
import { traceOnDevice } from '../sop/search-check.js';
import type { Outcome } from './command.js';
import { checkStatistics, openImages } from './open-images.js';
import { type CommonOptions, type ConfigOptions, configFrom, configLayers } from './options.js';
import type { Printer } from './printer.js';
import { checkRunFolder, checkSameRun, prepareRunFolder, readRunConfig, runFolder, TrainLog } from './run-folder.js';
import { runTraining, type TrainingOutcome } from './run-training.js';
import { Interrupted, type StopRequest } from './signals.js';
import { SkippedImages } from './skipped-images.js';
import { superviseTraining } from './supervise.js';
import type { TrainSetup } from './train-setup.js';

export interface TrainOptions extends ConfigOptions {
  readonly out: string | undefined;
  readonly resume?: boolean | undefined;
  /** Weights to begin with. */
  readonly init?: string | undefined;
  readonly profile?: boolean | undefined;
  /** Start again, from the last checkpoint, where the process dies. */
  readonly supervise?: boolean | undefined;
}

/** `sop-gpu train`: settings, data, device, run folder, in this order; then the training itself. */
export async function trainCommand(
  options: TrainOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const { out } = options;
  if (out === undefined) {
    throw new SopError(ExitCode.usage, {
      what: 'no folder for the run',
      where: '--out',
      why: 'a run keeps its checkpoints there',
      fix: 'give --out runs/<name>',
    });
  }
  const resume = options.resume ?? false;
  if (resume && options.init !== undefined) {
    throw new SopError(ExitCode.usage, {
      what: '--resume with --init',
      where: '--init',
      why: 'a run that goes on has weights of its own',
      fix: 'leave one of them out',
    });
  }
  const config = resume ? await resumedConfig(out, options) : await configFrom(options);
  const data = config.data.path;
  if (data === null) {
    if (resume) throw withoutImages(runFolder(out).config);
    throw new SopError(ExitCode.usage, {
      what: 'no images',
      where: '--data',
      why: 'training needs a folder, file or known name',
      fix: 'give --data <path>, or --data fashion-mnist',
    });
  }
  await checkRunFolder(out, { resume });
  if (resume) await checkCheckpoints(out);
  if (options.init !== undefined) await readSafetensorsHeader(options.init);
  if (options.supervise) {
    stop.dispose(); // signals are the child's
    return superviseTraining(out, printer);
  }
  const early = (signal: string): void => printer.line(`${signal}: nothing was trained, nothing to save`);
  stop.onLeave(early);
  try {
    return await trainOnData({ ...options, out, data }, config, common, printer, stop);
  } catch (error) {
    if (error instanceof Interrupted && stop.signal !== null) early(stop.signal);
    throw error;
  }
}

async function trainOnData(
  options: TrainOptions & { readonly out: string; readonly data: string },
  config: Config,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const { out, data, init, resume = false, profile = false } = options;
  const skipped = new SkippedImages(printer);
  const splits = await openImages(data, { onBadImage: config.data.on_bad_image }, printer, skipped).catch(
    (error: unknown) => {
      throw resume ? asMoved(error, data) : error;
    },
  );
  checkStatistics(config, splits.train, options);
  stepsPerEpoch(splits.train.count, config);
  const lock = await lockFolder(out);
  const run = await prepareRunFolder(out, { resume }).catch((error: unknown) => {
    lock.release();
    throw error;
  });
  const log = new TrainLog(run.log);
  const untee = printer.tee(log.line);
  try {
    if (lock.note) printer.warn(lock.note);
    skipped.listIn(run.skipped);
    await removeStaleTemporaries(out);
    const asked = { quiet: common.quiet, adapter: common.adapter, modelWidth: config.model.width };
    const reopen = (): Promise<Gpu> => openNodeGpu(asked);
    // A process that leaves while its device is at work crashes.
    stop.begin(() => undefined);
    const gpu = await reopen();
    const complete = await withStatistics(config, splits.train);
    return await trainInFolder({
      config: complete,
      splits,
      gpu,
      run,
      lock,
      resume,
      init,
      printer,
      profile,
      stop,
      reopen,
    });
  } finally {
    untee();
    log.close();
    lock.release();
  }
}

/** Traces, prints what will happen, and trains. */
export async function trainInFolder(setup: TrainSetup): Promise<TrainingOutcome> {
  const { config, splits, gpu, printer } = setup;
  printer.line(
    `data     ${splits.train.name}: ${counted(splits.train.count, 'image')}${splits.test ? `, ${splits.test.count} to test with` : ''}`,
  );
  printer.line(`adapter  ${gpu.target.name}`);
  for (const line of ['settings', ...formatConfig(config).trimEnd().split('\n')]) {
    if (setup.brief) printer.record(line);
    else printer.line(line === 'settings' ? line : `  ${line}`);
  }
  return trainOn({ ...setup, checksum: await splits.train.checksum?.() });
}

/** Trains, and once more on another device, from the last checkpoint, where the first one is lost. */
async function trainOn(setup: TrainSetup): Promise<TrainingOutcome> {
  const { config, splits, gpu, printer, reopen, ...rest } = setup;
  try {
    return await runTraining(setup, await traceOnDevice(gpu, config, dataShape(config, splits.train, gpu)));
  } catch (error) {
    const lost = error instanceof SopError && error.exitCode === ExitCode.tryAgain && !(error instanceof HangError);
    if (!lost || !reopen) throw error;
    printer.warn(`${error.complaint.what}: ${error.complaint.why}; trying once more on another device`);
    return trainOn({ ...rest, config, splits, printer, gpu: await reopen(), resume: true });
  }
}

/** A run names its images as it was started with them: seen from another folder, they are elsewhere. */
function asMoved(error: unknown, data: string): unknown {
  if (!(error instanceof SopError) || error.exitCode !== ExitCode.noInput || error.complaint.where !== data)
    return error;
  const fix = 'give --data, the place where the images of this run are now';
  return new SopError(error.exitCode, { ...error.complaint, fix }, { cause: error });
}

/** `config.yaml` of a run that goes on, cut off or edited: every run that was started has its images there. */
function withoutImages(where: string): SopError {
  const why = 'it has no data.path, as where it was cut off';
  return new SopError(ExitCode.config, { what: 'no images', where, why, fix: 'restore it from a copy' });
}

/** The configuration of a run that goes on: its own, which flags may repeat but not contradict. */
async function resumedConfig(out: string, options: TrainOptions): Promise<Config> {
  const run = runFolder(out);
  const saved = await readRunConfig(run);
  const layers = await configLayers(options);
  if (layers.every(({ settings }) => settings.size === 0)) return saved;
  const settings = [...flattenConfig(saved)].map(([key, value]) => [key, { value, where: 'config.yaml' }] as const);
  const base: Layer = { name: run.config, origin: 'file', settings: new Map(settings) };
  const wanted = resolveConfig([base, ...layers]);
  checkSameRun(saved, wanted, run.config);
  return wanted;
}
