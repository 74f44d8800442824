import { readSafetensorsFile } from '../data/node/files.js';
import { ExitCode, SopError } from '../errors.js';
import { type Evaluation, Evaluator, quickProtocol } from '../eval/evaluator.js';
import { initFrom, initLines } from '../eval/init.js';
import { mebibytes } from '../plan/plan.js';
import { describePlan, planSummary } from '../plan/report.js';
import { Feed, stepsPerEpoch } from '../sop/feed.js';
import { runClock, runSteps, type StepRecord } from '../sop/loop.js';
import { studentSpecs } from '../sop/networks.js';
import { type SetupProgress, Trainer } from '../sop/trainer.js';
import { describeBatches, type Training } from '../sop/training.js';
import type { Outcome } from './command.js';
import { packageVersions } from './doctor.js';
import { availableMemory } from './host-memory.js';
import { MetricsFile, type MetricsRecord } from './metrics-file.js';
import type { Printer } from './printer.js';
import { profileSteps } from './profile.js';
import { CountProgress, formatDuration, formatRate, TrainProgress } from './progress.js';
import { exportTeacher, type Progress, restore, Saver } from './run-checkpoints.js';
import { writeEnvironment, writeRunConfig } from './run-folder.js';
import { watchSignals } from './signals.js';
import type { TrainSetup } from './train.js';

const unreadable: ReadonlySet<ExitCode> = new Set([ExitCode.data, ExitCode.noInput]);

/** How a training ended. */
export interface TrainingOutcome extends Outcome {
  readonly steps: number;
  /** Seconds of training. */
  readonly seconds: number;
  /** Of the finished teacher; null where a signal stopped the run. */
  readonly evaluation: Evaluation | null;
}

/** The training itself: setup, steps, evaluations, checkpoints, the end. */
export async function runTraining(setup: TrainSetup, training: Training): Promise<TrainingOutcome> {
  const { config, splits, run, resume, printer } = setup;
  const { count } = splits.train;
  printPlan(training, printer, count);
  checkMemory(training);
  const trainer = await createTrainer(setup, training);
  // Only now: a run that did not fit leaves no folder that would have to be removed before the next try.
  if (!resume) {
    await writeRunConfig(run, config, process.argv.slice(2).join(' '));
    const { description: adapter, target } = setup.gpu;
    await writeEnvironment(run, { adapter, target, versions: packageVersions() });
  }
  const restored = resume ? await restore(setup, trainer) : null;
  const progress: Progress = restored?.progress ?? { step: 0, elapsed: 0, best: Number.NaN };
  if (!restored && setup.init !== undefined) await initialize(setup.init, trainer, printer);
  for (const write of Feed.residentPixels(training, splits.train)) trainer.write(write);

  const metrics = MetricsFile.open(run.metrics, progress.step);
  const feed = new Feed(training, splits.train, progress.step);
  const clock = runClock(config, feed.stepsPerEpoch);
  const evaluator = setup.evaluator ?? (await quickEvaluator(setup, training));
  const stop = watchSignals({ onRequest: (signal) => printer.line(`${signal}: finishing the step, then saving`) });
  const line = new TrainProgress(printer, config.log.every);
  const saver = new Saver(setup, trainer, metrics, progress, restored?.lastStep ?? null);
  const isLast = (step: number): boolean => clock.totalSteps !== null && step >= clock.totalSteps;
  const evaluates = (step: number): boolean => {
    const every = config.eval.every_epochs * feed.stepsPerEpoch;
    return every > 0 && step % every === 0 && step > evaluated;
  };
  let saveAt = -1;
  // Step of the last evaluation in the metrics: none is written twice.
  let evaluated = metrics.history.lastEvaluation;
  let failing = false;
  try {
    // A disk that cannot hold a checkpoint is found now, and whatever happens later, there is one to go back to.
    await saver.saveLast();
    const options = {
      done: progress.step,
      elapsed: progress.elapsed,
      stopped: () => stop.signal !== null,
      barrier: (step: number) => {
        // Decided here, once: when the record of this step comes, whether a save is due may have changed.
        const save = saver.due();
        if (save) saveAt = step;
        return save || evaluates(step) || stop.signal !== null || isLast(step);
      },
    };
    let rate = 0;
    let teacherEntropy = Number.NaN;
    for await (const record of runSteps(trainer, feed, clock, options)) {
      progress.step = record.step;
      progress.elapsed += record.seconds;
      teacherEntropy = record.teacherEntropy;
      rate = rate > 0 ? 0.9 * rate + (0.1 * record.images) / record.seconds : record.images / record.seconds;
      append(metricsLine(record));
      line.update(progressState(record, rate, clock, progress));
      if (evaluates(record.step) && !isLast(record.step)) await evaluate(record);
      if (saveAt === record.step) await saver.trySave('last');
    }
    line.stop();
    await saver.saveLast();
    if (stop.exitCode !== null) {
      printer.line(`stopped after step ${progress.step}; go on with --resume`);
      return { stoppedBy: stop.exitCode, steps: progress.step, seconds: progress.elapsed, evaluation: null };
    }
    const final = await evaluate({
      step: progress.step,
      epoch: Math.floor((progress.step - 1) / feed.stepsPerEpoch),
      teacherEntropy,
    });
    await exportTeacher(setup, trainer, progress.step);
    printer.line(
      `done     ${progress.step} steps in ${formatDuration(progress.elapsed)}, ${formatRate((progress.step * training.config.train.batch_size * config.optim.accumulate) / progress.elapsed)} images/s`,
    );
    printer.line(`weights  ${run.exported}`);
    if (setup.profile) await profileSteps(trainer, run.folder, printer);
    const { step: steps, elapsed: seconds } = progress;
    const result = { steps, seconds, knn: final.comparison?.knn.top1 ?? null, ...final.spread };
    return { result, steps, seconds, evaluation: final };
  } catch (error) {
    // An image that cannot be read ends the run, but all that was learned before it is kept.
    if (error instanceof SopError && unreadable.has(error.exitCode)) await saver.saveLast();
    throw error;
  } finally {
    line.stop();
    stop.dispose();
    feed.close();
    metrics.close();
    await trainer.settled().catch(() => undefined);
    trainer.destroy();
    if (evaluator !== setup.evaluator) evaluator.destroy();
  }

  /** A full disk costs lines of the metrics, never the run. */
  function append(record: MetricsRecord): void {
    try {
      metrics.append(record);
      failing = false;
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
      if (!failing) printer.warn(`${error.message}; the run goes on, metrics are missing from step ${record.step}`);
      failing = true;
    }
  }

  /** Measures the teacher at a barrier, writes the line, keeps the best. */
  async function evaluate({
    step,
    epoch,
    teacherEntropy,
  }: Pick<StepRecord, 'step' | 'epoch' | 'teacherEntropy'>): Promise<Evaluation> {
    const weights = new Map((await trainer.teacherWeights()).map(({ name, data }) => [name, data as Float32Array]));
    const result = await evaluator.evaluate(weights);
    const { comparison, spread } = result;
    const line = {
      step,
      epoch,
      knn: comparison?.knn.top1 ?? null,
      feature_std: spread.featureStd,
      effective_rank: spread.effectiveRank,
      teacher_entropy: teacherEntropy,
    };
    // A finished run that is resumed has the line of its last step already.
    if (step > evaluated) append(line);
    evaluated = step;
    printer.line(describeEvaluation(step, result));
    const score = comparison ? comparison.knn.top1[comparison.knn.bestK]! : spread.effectiveRank;
    if (!(score <= progress.best)) {
      progress.best = score;
      await saver.trySave('best');
    }
    return result;
  }
}

/** The evaluator of a run that brings none: some images of its own set, the same ones for the same seed. */
async function quickEvaluator({ config, splits, gpu }: TrainSetup, { shape, data }: Training): Promise<Evaluator> {
  const protocol = quickProtocol(splits.train, splits.test, config.eval.k, config.train.seed);
  return Evaluator.create(gpu, shape.network, { ...data, size: config.model.image_size }, protocol);
}

/** `--init`: first weights from a file. */
async function initialize(path: string, trainer: Trainer, printer: Printer): Promise<void> {
  const { tensors } = await readSafetensorsFile(path);
  const initial = initFrom(tensors, studentSpecs(trainer.training.shape.network), path);
  trainer.begin(initial.weights);
  for (const line of initLines(initial, path)) printer.line(line);
}

async function createTrainer({ gpu, printer }: TrainSetup, training: Training): Promise<Trainer> {
  const started = performance.now();
  const lines = {
    compile: new CountProgress('shaders compiled', printer),
    'warm up': new CountProgress('shaders warmed up', printer),
  };
  const progress: SetupProgress = (stage, done, total) => lines[stage].update(done, total);
  try {
    const trainer = await Trainer.create(gpu, training, progress);
    printer.line(`compiled in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    return trainer;
  } finally {
    for (const line of Object.values(lines)) line.stop();
  }
}

/** What will happen, before step 1. */
function printPlan(training: Training, printer: Printer, count: number): void {
  printer.line(`run      ${describeLength(training, count)}`);
  for (const line of planSummary(describePlan(training.plan))) printer.line(line);
  printer.line(describeBatches(training));
}

/** Software adapters hand out memory that the machine does not have, and die when it is touched: refused before step 1. */
function checkMemory({ plan }: Training): void {
  const { total } = describePlan(plan).memory;
  const available = availableMemory();
  if (plan.target.kind === 'gpu' || total <= available) return;
  throw new SopError(ExitCode.unavailable, {
    what: 'the step does not fit into memory',
    where: plan.target.name,
    why: `the plan needs ${mebibytes(total)} MiB, ${mebibytes(available)} MiB are free`,
    fix: 'lower --batch-size, or set train.checkpoint_blocks=true',
  });
}

function metricsLine(record: StepRecord): { step: number } & Record<string, unknown> {
  const { values } = record;
  return {
    step: record.step,
    epoch: record.epoch,
    loss: record.loss,
    loss_cls: record.lossCls,
    loss_patch: record.lossPatch,
    grad_norm: record.gradNorm,
    param_norm: record.paramNorm,
    update_norm: record.updateNorm,
    lr: values.lr,
    weight_decay: values.weightDecay,
    momentum: values.momentum,
    images_per_s: record.images / record.seconds,
  };
}

function progressState(record: StepRecord, rate: number, clock: ReturnType<typeof runClock>, { elapsed }: Progress) {
  const { totalSteps, totalSeconds } = clock;
  return {
    step: record.step,
    steps: totalSteps ?? undefined,
    fraction: totalSteps === null ? elapsed / (totalSeconds ?? 1) : record.step / totalSteps,
    lossCls: record.lossCls,
    lossPatch: record.lossPatch,
    imagesPerSecond: rate,
  };
}

function describeEvaluation(step: number, { comparison, spread }: Evaluation): string {
  const knn = comparison
    ? Object.entries(comparison.knn.top1)
        .map(([k, value]) => `k=${k} ${value.toFixed(2)} %`)
        .join(', ')
    : 'no labels';
  return `step ${step}  k-NN ${knn}  feature std ${spread.featureStd.toFixed(3)}  effective rank ${spread.effectiveRank.toFixed(1)}`;
}

/** Length of the run for people. */
function describeLength(training: Training, count: number): string {
  const { config } = training;
  const perEpoch = stepsPerEpoch(count, config.train.batch_size, config.optim.accumulate);
  const { totalSteps, totalSeconds } = runClock(config, perEpoch);
  if (totalSteps === null) return `${(totalSeconds ?? 0) / 60} minutes`;
  return `${totalSteps} steps of ${config.train.batch_size * config.optim.accumulate} images, ${(totalSteps / perEpoch).toPrecision(3)} epochs`;
}
