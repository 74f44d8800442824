import { imagesPerStep } from '../config/schema.js';
import { metricsLine } from '../engine/run.js';
import { ExitCode, SopError } from '../errors.js';
import type { Evaluation } from '../eval/evaluator.js';
import { HangError } from '../gpu/watchdog.js';
import { counted } from '../numbers.js';
import { Feed } from '../sop/feed.js';
import { type RunClock, runClock, runSteps } from '../sop/loop.js';
import { NonFiniteError, type Trainer } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import { AwakeClock } from './awake-clock.js';
import type { Outcome } from './command.js';
import { PastSteps, withStepFile } from './nonfinite.js';
import { type OwnStep, profileSteps } from './profile.js';
import { formatDuration, formatRate, TrainProgress } from './progress.js';
import { exportTeacher, type Progress, Saver } from './run-checkpoints.js';
import { Evaluations } from './run-evaluations.js';
import { RunMetrics } from './run-metrics.js';
import { RunPlace } from './run-place.js';
import { progressState } from './run-report.js';
import { prepareRun } from './run-setup.js';
import { SkippedSteps } from './skipped-steps.js';
import type { TrainSetup } from './train-setup.js';

const unreadable: ReadonlySet<ExitCode> = new Set([ExitCode.data, ExitCode.noInput]);

/** How a training ended. */
export interface TrainingOutcome extends Outcome {
  readonly steps: number;
  /** Seconds of training. */
  readonly seconds: number;
  /** Of the finished teacher; null where a signal stopped the run. */
  readonly evaluation: Evaluation | null;
}

/** A run in progress. */
interface ActiveRun {
  readonly setup: TrainSetup;
  readonly trainer: Trainer;
  readonly progress: Progress;
  readonly feed: Feed;
  readonly clock: RunClock;
  readonly metrics: RunMetrics;
  readonly place: RunPlace;
  readonly saver: Saver;
  readonly evaluations: Evaluations;
  readonly line: TrainProgress;
  /** What a step that is not finite is made again from. */
  readonly past: PastSteps;
}

/** The training itself: setup, steps, evaluations, checkpoints, the end. */
export async function runTraining(setup: TrainSetup, training: Training): Promise<TrainingOutcome> {
  const { config, splits, printer } = setup;
  const { trainer, progress, lastStep } = await prepareRun(setup, training);
  for (const write of Feed.residentPixels(training, splits.train)) trainer.write(write);

  const metrics = RunMetrics.open(setup.run.metrics, progress.step, printer);
  const place = await RunPlace.open(setup, metrics);
  const feed = new Feed(training, splits.train, progress.step);
  const { stepsPerEpoch } = feed;
  const saver = new Saver(setup, trainer, metrics, place, progress, lastStep);
  const run: ActiveRun = {
    ...{ setup, trainer, progress, feed, metrics, place, saver },
    clock: runClock(config, stepsPerEpoch),
    evaluations: await Evaluations.create(setup, { trainer, progress, metrics, saver, stepsPerEpoch }),
    line: new TrainProgress(printer, config.log.every),
    past: new PastSteps(),
  };
  let hung = false;
  const awake = new AwakeClock();
  try {
    const own = await trainSteps(run, new SkippedSteps(training, printer), awake.now);
    return await endRun(run, own);
  } catch (error) {
    hung = error instanceof HangError;
    // An image that cannot be read ends the run, but all that was learned before it is kept.
    if (error instanceof SopError && unreadable.has(error.exitCode)) await saver.saveLast();
    if (error instanceof NonFiniteError) {
      await saver.settled();
      throw await withStepFile(setup, trainer, run.past, error);
    }
    throw error;
  } finally {
    awake.close();
    run.line.stop();
    feed.close();
    await saver.settled();
    metrics.close();
    if (!hung) {
      await trainer.settled().catch(() => undefined);
      trainer.destroy();
      run.evaluations.destroy();
    }
  }
}

/** All steps, up to the end of the run or a signal. Returns them, where they are asked for (`--profile`). */
async function trainSteps(run: ActiveRun, skips: SkippedSteps, now: () => number): Promise<OwnStep[]> {
  const { setup, trainer, progress, feed, clock, metrics, saver, evaluations, line, past } = run;
  const { printer, stop } = setup;
  const isLast = (step: number): boolean => clock.totalSteps !== null && step >= clock.totalSteps;
  let saveAt = -1;
  const options = {
    done: progress.step,
    elapsed: progress.elapsed,
    now,
    tolerate: skips.tolerated,
    stopped: () => stop.signal !== null,
    barrier: (step: number) => {
      // Decided here, once: when the record of this step comes, whether a save is due may have changed.
      const save = stop.takeSave() || saver.due();
      if (save) saveAt = step;
      // After a step that was skipped the next one waits for its turn, so that the state is known if it is the last.
      return save || skips.lastSkipped || evaluations.due(step) || stop.signal !== null || isLast(step);
    },
  };
  // A disk that cannot hold a checkpoint is found now, and whatever happens later, there is one to go back to.
  await saver.saveLast();
  stop.begin((signal) => printer.line(`${signal}: finishing the step, then saving`));
  // A signal ended the run in the middle of this evaluation.
  if (evaluations.due(progress.step) && !isLast(progress.step)) await evaluations.evaluate();
  let rate = 0;
  const own: OwnStep[] = [];
  for await (const record of runSteps(trainer, feed, clock, options)) {
    progress.step = record.step;
    progress.elapsed += record.seconds;
    progress.teacherEntropy = record.teacherEntropy;
    if (setup.profile) own.push(record);
    past.add(record.values, saver.savedStep);
    skips.observe(record);
    metrics.append(metricsLine(record));
    rate = rate > 0 ? 0.9 * rate + (0.1 * record.images) / record.seconds : record.images / record.seconds;
    line.update(progressState(record, rate, clock, progress.elapsed));
    if (evaluations.due(record.step) && !isLast(record.step)) await evaluations.evaluate();
    if (saveAt === record.step) await saver.save('last');
    saver.check();
  }
  return own;
}

/** Saves; after the last step also evaluates and exports, and says what the run came to. */
async function endRun(run: ActiveRun, own: readonly OwnStep[]): Promise<TrainingOutcome> {
  const { setup, trainer, progress, metrics, place, saver, evaluations, line } = run;
  const { config, printer, stop } = setup;
  line.stop();
  await saver.saveLast();
  const { step: steps, elapsed: seconds } = progress;
  const recomputed = metrics.lists.summary();
  const evaluation = stop.signal === null ? await evaluations.evaluate() : null;
  if (evaluation === null) {
    printer.line(`stopped after step ${steps}; go on with --resume`);
    return { stoppedBy: stop.exitCode ?? undefined, steps, seconds, evaluation };
  }
  await exportTeacher(setup, trainer, place, steps);
  await saver.settled();
  const images = steps * imagesPerStep(config);
  printer.line(
    `done     ${counted(steps, 'step')} in ${formatDuration(seconds)}, ${formatRate(images / seconds)} images/s`,
  );
  printer.line(`weights  ${setup.run.exported}`);
  let stoppedBy: number | undefined;
  if (setup.profile) {
    stop.begin((signal) => printer.line(`${signal}: leaving the profile; the run itself is complete`));
    const traced = await profileSteps(trainer, setup.run.folder, printer, { own, done: steps }, stop);
    if (traced === null) stoppedBy = stop.exitCode ?? undefined;
  }
  const knn = evaluation.comparison?.knn.top1 ?? null;
  const result = { steps, seconds, knn, ...evaluation.spread, ...recomputed };
  return { result, stoppedBy, steps, seconds, evaluation };
}
