/**
 * Calls that must not overlap, in the order in which they came; a long one lets others in where it can. Without this, what is
 * read while a step runs would be half of the state before it and half of that after it.
 */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();
  private long = 0;
  private readonly waiting: (() => Promise<void>)[] = [];

  /** Does `body` when it is its turn, or when a long call lets it in. */
  take<T>(body: () => Promise<T>): Promise<T> {
    if (this.long === 0) return this.queue(body);
    return new Promise((resolve, reject) => {
      this.waiting.push(() => body().then(resolve, reject));
    });
  }

  /** Does `body`, which should call `letIn` now and then while `wanted`. */
  takeLong<T>(body: () => Promise<T>): Promise<T> {
    this.long += 1;
    return this.queue(async () => {
      try {
        return await body();
      } finally {
        await this.letIn();
        this.long -= 1;
      }
    });
  }

  /** Whether somebody waits to be let in. */
  get wanted(): boolean {
    return this.waiting.length > 0;
  }

  /** Does what waits; nothing of that rejects here. */
  async letIn(): Promise<void> {
    while (this.wanted) await this.waiting.shift()?.();
  }

  private queue<T>(body: () => Promise<T>): Promise<T> {
    const result = this.last.then(body);
    this.last = result.catch(() => undefined);
    return result;
  }
}
