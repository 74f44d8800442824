import { type Config, imagesPerStep, runLength } from '../config/schema.js';
import { type RunSchedules, runSchedules, scaledRate } from '../optim/schedules.js';
import type { Feed, StepBatch } from './feed.js';
import type { StepValues } from './step-inputs.js';
import type { StepResult } from './step-result.js';
import type { Trainer } from './trainer.js';

/** A finished step. */
export interface StepRecord extends StepResult {
  /** Optimizer steps done, this one included. */
  readonly step: number;
  /** Counted from 0. */
  readonly epoch: number;
  readonly values: StepValues;
  /** From the end of the step before to the end of this one. */
  readonly seconds: number;
  /** Of the step, its micro-batches together. */
  readonly images: number;
}

/** How long a run is and where in it a step lies. */
export interface RunClock {
  /** Steps of the whole run; null for a run that lasts a given time. */
  readonly totalSteps: number | null;
  /** Seconds of the whole run; null for a run of a given number of steps. */
  readonly totalSeconds: number | null;
  /**
   * Values of the step that follows `done` finished ones after `elapsed` seconds of training, or null when the run is over.
   */
  values(done: number, elapsed: number): StepValues | null;
}

/**
 * The schedules of a configuration over its run. For runs by time they follow the share that is over; that these have no
 * warm-up in epochs is checked with the configuration.
 */
export function runClock(config: Config, stepsPerEpoch: number): RunClock {
  const { unit, value } = runLength(config);
  if (unit === 'minutes') {
    const totalSeconds = 60 * value;
    const schedules = schedulesOf(config, 1, 0, config.optim.warmup ?? 0, 0);
    return {
      totalSteps: null,
      totalSeconds,
      values: (done, elapsed) => (elapsed >= totalSeconds ? null : stepValues(schedules, done, elapsed / totalSeconds)),
    };
  }
  const totalSteps = unit === 'steps' ? value : value * stepsPerEpoch;
  const warmup =
    config.optim.warmup === null
      ? Math.round((config.optim.warmup_epochs ?? 0) * stepsPerEpoch)
      : Math.round(config.optim.warmup * totalSteps);
  const schedules = schedulesOf(
    config,
    totalSteps,
    1,
    Math.min(warmup, totalSteps),
    config.sop.teacher_temp_warmup_epochs * stepsPerEpoch,
  );
  return {
    totalSteps,
    totalSeconds: null,
    values: (done) => (done >= totalSteps ? null : stepValues(schedules, done, done)),
  };
}

function schedulesOf(
  config: Config,
  total: number,
  iteration: number,
  lrWarmup: number,
  teacherTempWarmup: number,
): RunSchedules {
  const { optim, sop, train } = config;
  return runSchedules({
    total,
    iteration,
    lr: scaledRate(optim.lr, train.batch_size, optim.accumulate),
    minLr: optim.min_lr,
    lrWarmup,
    weightDecay: optim.weight_decay,
    weightDecayEnd: optim.weight_decay_end,
    momentum: optim.momentum_teacher,
    teacherTemp: sop.teacher_temp,
    teacherTempStart: sop.teacher_temp_warmup,
    teacherTempWarmup,
  });
}

function stepValues(schedules: RunSchedules, done: number, position: number): StepValues {
  return {
    step: done + 1,
    lr: schedules.lr(position),
    weightDecay: schedules.weightDecay(position),
    momentum: schedules.momentum(position),
    teacherTemp: schedules.teacherTemp(position),
  };
}

/** Where a run of steps begins, and what holds it up or ends it. */
export interface LoopOptions {
  /** Steps done before. */
  readonly done: number;
  /** Seconds of training before. */
  readonly elapsed: number;
  /** True when nothing may be started after step number `step` until its record was handled: checkpoints, evaluations, stops. */
  barrier(step: number): boolean;
  /** True when no further step shall begin. */
  stopped(): boolean;
  /** Steps that are not finite change nothing and are told in their record; else they end the loop. */
  readonly tolerate?: boolean;
  /** Milliseconds that count as training where nothing else holds it up (default: all that pass). */
  readonly now?: () => number;
}

/**
 * Runs steps and yields their records in order. While a record is handled the next step is already running, so the device
 * never waits for the host, except after a `barrier`: then the state on the device is that of the record.
 * @throws what `Feed.next` and `Trainer.step` throw
 */
export async function* runSteps(
  trainer: Trainer,
  feed: Feed,
  clock: RunClock,
  options: LoopOptions,
): AsyncGenerator<StepRecord> {
  const images = imagesPerStep(trainer.training.config);
  const { tolerate = false, now = () => performance.now() } = options;
  let { done, elapsed } = options;
  let last = now();
  const finish = async (running: Running): Promise<StepRecord> => {
    const result = await running.result;
    const end = now();
    const seconds = (end - last) / 1000;
    last = end;
    elapsed += seconds;
    return { ...result, step: running.values.step, epoch: running.epoch, values: running.values, seconds, images };
  };
  let running: Running | null = null;
  while (true) {
    if (running && options.barrier(running.values.step)) {
      yield await finish(running);
      running = null;
      // What the caller did at the barrier is not training time.
      last = now();
    }
    const values = options.stopped() ? null : clock.values(done, elapsed);
    if (!values) break;
    let batch: StepBatch;
    try {
      batch = await feed.next();
    } catch (error) {
      // The step that runs is complete: its record is news, and a checkpoint of it can be written.
      if (running) yield await finish(running);
      throw error;
    }
    await trainer.ready();
    const result = trainer.step(batch.writes, values, tolerate);
    // A failure is met when its record is awaited; until then it must not count as unhandled.
    result.catch(() => undefined);
    done += 1;
    const before: Running | null = running;
    running = { result, values, epoch: batch.epoch };
    if (before) yield await finish(before);
  }
  if (running) yield await finish(running);
}

interface Running {
  readonly result: Promise<StepResult>;
  readonly values: StepValues;
  readonly epoch: number;
}
