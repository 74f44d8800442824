import { skipsOf } from '../config/fields.js';
import { evaluationLine, metricsLine } from '../engine/run.js';
import { ExitCode, SopError } from '../errors.js';
import { collapse } from '../eval/collapse.js';
import type { Evaluation } from '../eval/evaluator.js';
import { HangError } from '../gpu/watchdog.js';
import { Feed } from '../sop/feed.js';
import { runClock, runSteps, type StepRecord } from '../sop/loop.js';
import { NonFiniteError } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import type { Outcome } from './command.js';
import { MetricsFile, type MetricsRecord } from './metrics-file.js';
import { PastSteps, withStepFile } from './nonfinite.js';
import { profileSteps } from './profile.js';
import { CountProgress, formatDuration, formatRate, TrainProgress } from './progress.js';
import { exportTeacher, Saver } from './run-checkpoints.js';
import { describeEvaluation, progressState } from './run-report.js';
import { prepareRun, quickEvaluator } from './run-setup.js';
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
  const { config, splits, run, printer } = setup;
  const { trainer, progress, lastStep } = await prepareRun(setup, training);
  for (const write of Feed.residentPixels(training, splits.train)) trainer.write(write);

  const metrics = MetricsFile.open(run.metrics, progress.step);
  const feed = new Feed(training, splits.train, progress.step);
  const clock = runClock(config, feed.stepsPerEpoch);
  const evaluator = setup.evaluator ?? (await quickEvaluator(setup, training));
  const stop = setup.stop ?? watchSignals();
  const line = new TrainProgress(printer, config.log.every);
  const saver = new Saver(setup, trainer, metrics, progress, lastStep);
  const isLast = (step: number): boolean => clock.totalSteps !== null && step >= clock.totalSteps;
  const evaluates = (step: number): boolean => {
    const every = config.eval.every_epochs * feed.stepsPerEpoch;
    return every > 0 && step > 0 && step % every === 0 && step > evaluated;
  };
  const epochOf = (step: number): number => Math.floor((step - 1) / feed.stepsPerEpoch);
  const past = new PastSteps();
  const skips = skipsOf(config.train.on_nonfinite);
  let skippedInRow = 0;
  let saveAt = -1;
  // Step of the last evaluation in the metrics: none is written twice.
  let { lastEvaluation: evaluated } = metrics.history;
  const { lists } = metrics.history;
  let failing = false;
  let collapsed = false;
  let hung = false;
  try {
    // A disk that cannot hold a checkpoint is found now, and whatever happens later, there is one to go back to.
    await saver.saveLast();
    stop.begin((signal) => printer.line(`${signal}: finishing the step, then saving`));
    // A signal ended the run in the middle of this evaluation.
    if (evaluates(progress.step) && !isLast(progress.step)) await evaluate();
    const options = {
      done: progress.step,
      elapsed: progress.elapsed,
      tolerate: skips > 0,
      stopped: () => stop.signal !== null,
      barrier: (step: number) => {
        // Decided here, once: when the record of this step comes, whether a save is due may have changed.
        const save = stop.takeSave() || saver.due();
        if (save) saveAt = step;
        // After a step that was skipped the next one waits for its turn, so that the state is known if it is the last.
        return save || skippedInRow > 0 || evaluates(step) || stop.signal !== null || isLast(step);
      },
    };
    let rate = 0;
    const stepSeconds: number[] = [];
    for await (const record of runSteps(trainer, feed, clock, options)) {
      progress.step = record.step;
      progress.elapsed += record.seconds;
      if (setup.profile) stepSeconds.push(record.seconds);
      progress.teacherEntropy = record.teacherEntropy;
      past.add(record.values, saver.savedStep);
      rate = rate > 0 ? 0.9 * rate + (0.1 * record.images) / record.seconds : record.images / record.seconds;
      checkSkipped(record);
      const { lossScale } = record;
      if (lossScale?.overflow) {
        const [before, after] = [2 * lossScale.scale, lossScale.scale];
        printer.line(
          `step ${record.step} was skipped: ${lossScale.overflow} overflows at loss scale ${before}, now ${after}`,
        );
      }
      append(metricsLine(record));
      line.update(progressState(record, rate, clock, progress.elapsed));
      if (evaluates(record.step) && !isLast(record.step)) await evaluate();
      if (saveAt === record.step) await saver.save('last');
      saver.check();
    }
    line.stop();
    await saver.saveLast();
    const recomputed = lists.summary();
    const final = stop.signal === null ? await evaluate() : null;
    if (final === null) {
      printer.line(`stopped after step ${progress.step}; go on with --resume`);
      const stoppedBy = stop.exitCode ?? undefined;
      return { stoppedBy, steps: progress.step, seconds: progress.elapsed, evaluation: null };
    }
    await exportTeacher(setup, trainer, progress.step);
    await saver.settled();
    printer.line(
      `done     ${progress.step} steps in ${formatDuration(progress.elapsed)}, ${formatRate((progress.step * config.train.batch_size * config.optim.accumulate) / progress.elapsed)} images/s`,
    );
    printer.line(`weights  ${run.exported}`);
    if (setup.profile) await profileSteps(trainer, run.folder, printer, stepSeconds);
    const { step: steps, elapsed: seconds } = progress;
    const result = { steps, seconds, knn: final.comparison?.knn.top1 ?? null, ...final.spread, ...recomputed };
    return { result, steps, seconds, evaluation: final };
  } catch (error) {
    hung = error instanceof HangError;
    // An image that cannot be read ends the run, but all that was learned before it is kept.
    if (error instanceof SopError && unreadable.has(error.exitCode)) await saver.saveLast();
    if (error instanceof NonFiniteError) {
      await saver.settled();
      throw await withStepFile(setup, trainer, past, error);
    }
    throw error;
  } finally {
    line.stop();
    if (stop !== setup.stop) stop.dispose();
    feed.close();
    await saver.settled();
    metrics.close();
    if (!hung) {
      await trainer.settled().catch(() => undefined);
      trainer.destroy();
      if (evaluator !== setup.evaluator) evaluator.destroy();
    }
  }

  /** Counts steps that changed nothing. @throws NonFiniteError after too many in a row */
  function checkSkipped({ skipped, step, values }: StepRecord): void {
    if (skipped === null) {
      skippedInRow = 0;
      return;
    }
    skippedInRow++;
    if (skippedInRow > skips) throw new NonFiniteError(skipped, values, false, training.shape.precision);
    printer.warn(`step ${step} was skipped: ${skipped} is not finite (${skippedInRow} of ${skips} in a row)`);
  }

  /** A full disk costs lines of the metrics, never the run. */
  function append(record: MetricsRecord): void {
    lists.observe(record);
    try {
      metrics.append(record);
      failing = false;
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
      if (!failing) printer.warn(`${error.message}; the run goes on, metrics are missing from step ${record.step}`);
      failing = true;
    }
  }

  /** Measures the teacher at a barrier, writes the line, keeps the best; null where a signal came before it was done. */
  async function evaluate(): Promise<Evaluation | null> {
    const { step, teacherEntropy } = progress;
    const weights = new Map((await trainer.teacherWeights()).map(({ name, data }) => [name, data as Float32Array]));
    const recomputed = lists.summary();
    const count = new CountProgress('images evaluated', printer);
    const interrupted = new Error('a signal came');
    const told = (done: number, total: number): void => {
      if (stop.signal !== null) throw interrupted;
      count.update(done, total);
    };
    const result = await evaluator
      .evaluate(weights, told)
      .catch((error: unknown) => {
        if (error !== interrupted) throw error;
        return null;
      })
      .finally(() => count.stop());
    if (result === null) return null;
    // A finished run that is resumed has the line of its last step already.
    const at = { step, epoch: epochOf(step), teacherEntropy };
    if (step > evaluated) append({ ...evaluationLine(at, result), ...recomputed });
    evaluated = step;
    printer.line(describeEvaluation(step, result));
    const { recomputed_lists_mean: mean, recomputed_lists_max: most } = recomputed;
    if (mean !== undefined) printer.line(`lists    ${mean.toPrecision(3)} searched anew a step, at most ${most}`);
    const { comparison, spread } = result;
    const score = comparison ? comparison.knn.top1[comparison.knn.bestK]! : spread.effectiveRank;
    if (!(score <= progress.best)) {
      progress.best = score;
      await saver.save('best');
    }
    await judge(step, collapse(spread, teacherEntropy, config.sop.cls.anchors));
    return result;
  }

  /** A collapse is told once, until it is over; with `train.stop_on_collapse` it ends the run. */
  async function judge(step: number, problem: string | null): Promise<void> {
    const fix = 'lower optim.lr, raise optim.momentum_teacher or sop.cls.anchors, or go on from an earlier checkpoint';
    if (problem !== null && config.train.stop_on_collapse) {
      await saver.saveLast();
      const where = `step ${step}`;
      throw new SopError(ExitCode.internal, { what: 'training has collapsed', where, why: problem, fix });
    }
    if (problem !== null && !collapsed) printer.warn(`training has collapsed (step ${step}): ${problem}; ${fix}`);
    collapsed = problem !== null;
  }
}
