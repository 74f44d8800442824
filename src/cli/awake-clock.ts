/** Milliseconds between two looks at the clock. */
const LOOK = 500;
/** Without a look for so long the process did not run: no work of ours holds the event loop up like this. */
const STOPPED = 5000;

/**
 * Milliseconds in which this process ran. Time in which it was stopped (Ctrl-Z, a batch system that suspends it) is no time of
 * training: a run of an hour that was stopped for an hour would go on as if it were over.
 */
export class AwakeClock {
  private last: number;
  private stopped = 0;
  private readonly timer: NodeJS.Timeout;

  /** @param read the time that passes anyway, milliseconds */
  constructor(private readonly read: () => number = () => performance.now()) {
    this.last = read();
    this.timer = setInterval(() => this.now(), LOOK).unref();
  }

  /** Asked by whoever needs the time; by itself the clock looks twice a second. */
  readonly now = (): number => {
    const time = this.read();
    const gap = time - this.last;
    this.last = time;
    if (gap > STOPPED) this.stopped += gap - LOOK;
    return time - this.stopped;
  };

  /** Looks no more. */
  close(): void {
    clearInterval(this.timer);
  }
}
