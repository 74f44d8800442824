import { ExitCode, SopError } from '../errors.js';
import type { Plan } from '../plan/plan.js';

/** Steps of which the median is taken. */
const WINDOW = 101;

export interface WatchdogLimits {
  /** No step is waited for less, seconds. */
  readonly least: number;
  /** Nor less than the median of the steps before it times this. */
  readonly factor: number;
  /** As long as there is no median, seconds: the first step may be slow for reasons of its own. */
  readonly first: number;
}

/** What a device may take that still works. */
export const patience: WatchdogLimits = { least: 60, factor: 20, first: 1200 };

/**
 * FLOP a second below which nothing works: for adapters of the CPU a thirtieth of what SwiftShader does on two idle cores,
 * as on a machine with thirty other processes; for a GPU less than any has.
 */
const SLOWEST = { software: 1e8, gpu: 1e10 } as const;

/** The same for a step of this plan: the first step of a large model takes an hour on a busy CPU. */
export function patienceFor({ costs, target }: Pick<Plan, 'costs' | 'target'>): WatchdogLimits {
  const flops = costs.reduce((sum, cost) => sum + cost.flops, 0);
  const slowest = target.kind === 'gpu' ? SLOWEST.gpu : SLOWEST.software;
  return { ...patience, first: Math.max(patience.first, flops / slowest) };
}

/** Tells a device that hangs from one that is slow: drivers that stop answering say nothing. */
export class Watchdog {
  private readonly seconds: number[] = [];
  private turn = 0;

  constructor(private readonly limits: WatchdogLimits = patience) {}

  /** Seconds that the next step may take. */
  limit(): number {
    const { least, factor, first } = this.limits;
    if (this.seconds.length === 0) return first;
    const sorted = [...this.seconds].sort((a, b) => a - b);
    return Math.max(least, factor * (sorted[sorted.length >> 1] ?? 0));
  }

  /** @throws SopError (75) where `step` takes longer than a step may */
  async guard<T>(step: Promise<T>): Promise<T> {
    const started = performance.now();
    const limit = this.limit();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hung = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(hangs(limit)), 1000 * limit);
    });
    try {
      const result = await Promise.race([step, hung]);
      this.seconds[this.turn++ % WINDOW] = (performance.now() - started) / 1000;
      return result;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** The device did not answer in time (exit 75): waiting for it, even to free it, would take for ever. */
export class HangError extends SopError {}

function hangs(limit: number): HangError {
  return new HangError(ExitCode.tryAgain, {
    what: 'the device hangs',
    where: 'device',
    why: `a step did not end within ${limit.toFixed(0)} s`,
    fix: 'start again; a training run goes on from its last checkpoint with --resume',
  });
}
