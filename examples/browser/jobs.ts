export type Job = () => Promise<void>;

/** Jobs that run one after the other, in the order in which they came. */
export class Jobs {
  private readonly waiting: Job[] = [];
  private running = false;
  private interruption = new AbortController();

  /**
   * @param idle what is done while nothing waits, portion by portion; null when nothing is
   * @param failed told of the error of a job; the next one runs all the same
   */
  constructor(
    private readonly idle: () => Job | null,
    private readonly failed: (error: unknown) => Promise<void>,
  ) {}

  add(job: Job): void {
    this.waiting.push(job);
    this.interrupt();
    void this.run();
  }

  /** Asks the portion that runs to come to its end. */
  interrupt(): void {
    this.interruption.abort();
  }

  /** For a portion that begins: aborted as soon as something else is to be done. */
  get interrupted(): AbortSignal {
    return this.interruption.signal;
  }

  private async run(): Promise<void> {
    if (this.running) return;
    this.running = true;
    for (let job = this.next(); job; job = this.next()) await job().catch(this.failed);
    this.running = false;
  }

  private next(): Job | null {
    const job = this.waiting.shift();
    if (job) return job;
    this.interruption = new AbortController();
    return this.idle();
  }
}
