import type { DecodedImage, ImageSet } from './dataset.js';

export interface Batch {
  readonly step: number;
  readonly indices: readonly number[];
  /** In the order of `indices`. */
  readonly images: readonly DecodedImage[];
}

export interface PrefetchOptions {
  /** The step of the first batch (default 0). */
  readonly firstStep?: number;
  /** Batches kept decoded, or on their way, beyond the one asked for (default 2). */
  readonly ahead?: number;
  /** Images decoded at a time (default: the cores that the platform names, else 4). */
  readonly concurrency?: number;
}

/**
 * Decodes batches ahead of the step that needs them, so that training waits for no file. Batches come in the order of
 * the steps, whatever order their images are decoded in.
 */
export class Prefetcher {
  private readonly gate: Gate;
  private readonly ahead: number;
  private readonly pending: Promise<Batch | null>[] = [];
  private step: number;
  private closed = false;

  /**
   * @param indices the images of a step, or null after the last step: a pure function, so that a resumed run reads the
   * same images
   */
  constructor(
    private readonly set: Pick<ImageSet, 'read'>,
    private readonly indices: (step: number) => ArrayLike<number> | null,
    options: PrefetchOptions = {},
  ) {
    this.step = options.firstStep ?? 0;
    this.ahead = options.ahead ?? 2;
    this.gate = new Gate(options.concurrency ?? globalThis.navigator?.hardwareConcurrency ?? 4);
    this.fill();
  }

  /**
   * The batch of the next step; null after the last one or after `close`.
   *
   * @throws what the set's `read` throws, at the batch that holds the image; the queue is closed then.
   */
  async next(): Promise<Batch | null> {
    this.fill();
    const batch = this.pending.shift();
    if (batch === undefined) return null;
    this.fill();
    try {
      return await batch;
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Starts no further decoding. What is being decoded ends unseen. */
  close(): void {
    this.closed = true;
    this.pending.length = 0;
    this.gate.close();
  }

  private fill(): void {
    while (!this.closed && this.pending.length <= this.ahead) {
      const indices = this.indices(this.step);
      if (indices === null) return;
      const batch = this.load(this.step++, Array.from(indices));
      // An error belongs to the `next` that asks for this batch; until then it must not count as unhandled.
      batch.catch(() => undefined);
      this.pending.push(batch);
    }
  }

  private async load(step: number, indices: readonly number[]): Promise<Batch | null> {
    const images = await Promise.all(indices.map((index) => this.gate.run(() => this.set.read(index))));
    return images.includes(null) ? null : { step, indices, images: images as DecodedImage[] };
  }
}

/** Lets `most` tasks run at a time, the others wait in the order they came. After `close` none starts: they give null. */
class Gate {
  private running = 0;
  private closed = false;
  private readonly waiting: (() => void)[] = [];

  constructor(private readonly most: number) {}

  async run<T>(task: () => Promise<T>): Promise<T | null> {
    if (this.running >= this.most) await new Promise<void>((resolve) => this.waiting.push(resolve));
    else this.running++;
    try {
      return this.closed ? null : await task();
    } finally {
      const next = this.waiting.shift();
      if (next) next();
      else this.running--;
    }
  }

  close(): void {
    this.closed = true;
  }
}

/** Images decoded at a time: each may need 400 MB for a moment. */
export const AT_ONCE = 4;

/**
 * Runs `task` for 0 .. count - 1, `concurrency` at a time, and ends early, without error, once it returns false.
 *
 * @throws the first error of a task, after the running ones have ended
 */
export async function forEachParallel(
  count: number,
  concurrency: number,
  task: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  let stop = false;
  const worker = async (): Promise<void> => {
    while (!stop && next < count) {
      try {
        if ((await task(next++)) === false) stop = true;
      } catch (error) {
        stop = true;
        throw error;
      }
    }
  };
  const results = await Promise.allSettled(Array.from({ length: Math.min(concurrency, count) }, worker));
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
