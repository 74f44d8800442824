/**
 * Schedules as functions of a position in the run: the number of the iteration, counted from 0; or
 * the share of the run that is done, for runs that last a given time. With `iteration` = 1 a schedule takes at whole
 * positions the values of the formula; with `iteration` = 0 it is the limit of ever more iterations.
 */
export type Schedule = (position: number) => number;

/** Lengths of a run, in the unit of positions. */
export interface RunSpan {
  readonly total: number;
  /** Length of one iteration: 1 (the default) where positions count iterations, 0 where they are a share of the run. */
  readonly iteration?: number;
}

export interface Warmup {
  readonly start: number;
  readonly end: number;
  /** Length of the warm-up, in the unit of positions. */
  readonly warmup: number;
  readonly iteration?: number;
}

export interface Cosine extends RunSpan {
  /** Value after the warm-up. */
  readonly base: number;
  /** Value at the end of the run, one iteration after the last. */
  readonly final: number;
  /** Value at the start of the warm-up; 0 if not said. */
  readonly start?: number;
  /** Length of the warm-up, in the unit of positions; none if not said. */
  readonly warmup?: number;
}

/** `linspace(start, end, warmup)`, both ends included (one iteration alone has the start), then `end`. */
export function linearWarmup({ start, end, warmup, iteration = 1 }: Warmup): Schedule {
  return (position) => {
    if (position >= warmup) return end;
    const last = warmup - iteration;
    return last > 0 ? start + (end - start) * Math.min(1, position / last) : start;
  };
}

/** Linear warm-up, then `final + (base - final) / 2 (1 + cos(pi i / n))` over the n remaining iterations, i from 0. */
export function cosineSchedule({ base, final, start = 0, warmup = 0, total, iteration = 1 }: Cosine): Schedule {
  const rise = linearWarmup({ start, end: base, warmup, iteration });
  return (position) => {
    if (position < warmup) return rise(position);
    const done = warmup < total ? Math.min(1, (position - warmup) / (total - warmup)) : 1;
    return final + ((base - final) / 2) * (1 + Math.cos(Math.PI * done));
  };
}

/** What the schedules of a training run depend on. Warm-ups are in the unit of positions. */
export interface RunSettings extends RunSpan {
  /** Learning rate as used: see `scaledRate`. */
  readonly lr: number;
  readonly minLr: number;
  readonly lrWarmup: number;
  readonly weightDecay: number;
  readonly weightDecayEnd: number;
  /** Momentum of the teacher at the start; 1 at the end. */
  readonly momentum: number;
  readonly teacherTemp: number;
  readonly teacherTempStart: number;
  readonly teacherTempWarmup: number;
}

export interface RunSchedules {
  readonly lr: Schedule;
  readonly weightDecay: Schedule;
  readonly momentum: Schedule;
  readonly teacherTemp: Schedule;
}

/** The four schedules of a run: learning rate and teacher temperature warm up, weight decay and momentum do not. */
export function runSchedules(settings: RunSettings): RunSchedules {
  const { total, iteration = 1 } = settings;
  const span = { total, iteration };
  return {
    lr: cosineSchedule({ ...span, base: settings.lr, final: settings.minLr, warmup: settings.lrWarmup }),
    weightDecay: cosineSchedule({ ...span, base: settings.weightDecay, final: settings.weightDecayEnd }),
    momentum: cosineSchedule({ ...span, base: settings.momentum, final: 1 }),
    teacherTemp: linearWarmup({
      start: settings.teacherTempStart,
      end: settings.teacherTemp,
      warmup: settings.teacherTempWarmup,
      iteration,
    }),
  };
}

/** Learning rate for a batch, from that for 256 images: `lr batch accumulate / 256`. */
export function scaledRate(lr: number, batch: number, accumulate: number): number {
  return (lr * batch * accumulate) / 256;
}
