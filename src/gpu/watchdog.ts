import { ExitCode, SopError } from '../errors.js';
import { median } from '../numbers.js';
import type { TargetKind } from './target.js';

/** Steps of which the median is taken. */
const WINDOW = 101;

export interface WatchdogLimits {
  /** No answer is waited for less, seconds. */
  readonly least: number;
  /** Nor less than the median of the steps before it times this. */
  readonly factor: number;
  /** As long as there is no median, seconds: the first step may be slow for reasons of its own. */
  readonly first: number;
}

/** What a device may take that still works. */
const patience: WatchdogLimits = { least: 60, factor: 20, first: 1200 };

/**
 * FLOP a second below which nothing works: for adapters of the CPU a thirtieth of what SwiftShader does on two idle cores,
 * as on a machine with thirty other processes; for a GPU less than any has.
 */
const SLOWEST = { software: 1e8, gpu: 1e10 } as const;

/** What a device that works may take for a step of so many FLOP: the first one of a large model takes an hour on a busy CPU. */
export function patienceFor(kind: TargetKind, flops: number): WatchdogLimits {
  const slowest = kind === 'gpu' ? SLOWEST.gpu : SLOWEST.software;
  return { ...patience, first: Math.max(patience.first, flops / slowest) };
}

/** Looks at the clock in one wait, at most: time in which this process was stopped counts as one of them. */
const LOOKS = 10;

/** Tells a device that hangs from one that is slow: drivers that stop answering say nothing. */
export class Watchdog {
  private readonly seconds: number[] = [];
  private turn = 0;

  constructor(private readonly limits: WatchdogLimits = patience) {}

  /** Seconds that the device may take to answer. */
  limit(): number {
    const { least, factor, first } = this.limits;
    if (this.seconds.length === 0) return first;
    return Math.max(least, factor * median(this.seconds));
  }

  /** A step took so long. */
  took(seconds: number): void {
    this.seconds[this.turn++ % WINDOW] = seconds;
  }

  /** Calls `onHang` (exit 75) when the time is over, unless the function returned was called before. */
  watch(onHang: (error: HangError) => void): () => void {
    const limit = this.limit();
    let looks = 0;
    const timer = setInterval(
      () => {
        if (++looks < LOOKS) return;
        clearInterval(timer);
        onHang(hangs(limit));
      },
      (1000 * limit) / LOOKS,
    );
    return () => clearInterval(timer);
  }
}

/** The device did not answer in time (exit 75): waiting for it, even to free it, would take for ever. */
export class HangError extends SopError {}

function hangs(limit: number): HangError {
  return new HangError(ExitCode.tryAgain, {
    what: 'the device hangs',
    where: 'device',
    why: `it did not answer within ${limit < 10 ? limit.toPrecision(1) : limit.toFixed(0)} s`,
    fix: 'start again; a training run goes on from its last checkpoint with --resume',
  });
}
