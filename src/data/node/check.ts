import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { SopError } from '../../errors.js';
import type { ImageSet } from '../dataset.js';
import { forEachParallel } from '../prefetch.js';
import { decodeImage } from './decode.js';
import type { BadImage } from './folder-set.js';
import type { ImageListing } from './image-folder.js';
import { locate, type OpenOptions } from './open.js';

export interface DataReport {
  /** Readable images of all splits. */
  readonly images: number;
  /** Readable images of each class, by name, where there are classes. */
  readonly classes: ReadonlyMap<string, number> | null;
  /** Readable images of each size, as "width x height", most frequent first. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Files that cannot be decoded, in the order of the listing. */
  readonly bad: readonly BadImage[];
  /** What was ignored. */
  readonly notes: readonly string[];
}

/**
 * Reads everything that training on `pathOrName` could read, decoding every image.
 *
 * @param progress called after each image
 * @throws SopError 65 if a binary file (IDX, CIFAR) is malformed, 66 if there is nothing to check
 */
export async function checkData(
  pathOrName: string,
  progress: (done: number, total: number) => void = () => undefined,
  options: Pick<OpenOptions, 'fashionMnist' | 'limitInputPixels' | 'concurrency'> = {},
): Promise<DataReport> {
  const located = await locate(pathOrName, options);
  const tally = new Tally();
  const notes: string[] = [];
  if (located.kind === 'open') {
    const { train, test } = located.splits;
    for (const set of test ? [train, test] : [train]) tally.resident(set);
    progress(tally.images, tally.images);
  } else {
    const listings = located.test ? [located.train, located.test] : [located.train];
    const total = listings.reduce((sum, { files }) => sum + files.length, 0);
    let done = 0;
    for (const listing of listings) {
      notes.push(...listing.notes.map((note) => `${listing.root}: ${note}`));
      await tally.folder(listing, options, () => progress(++done, total));
    }
  }
  const sizes = new Map([...tally.sizes].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)));
  return { images: tally.images, classes: tally.classes.size > 0 ? tally.classes : null, sizes, bad: tally.bad, notes };
}

class Tally {
  images = 0;
  readonly classes = new Map<string, number>();
  readonly sizes = new Map<string, number>();
  readonly bad: BadImage[] = [];

  /** Classes are reported in their own order, those without a readable image too. */
  private expect(classes: readonly string[] | null): void {
    for (const name of classes ?? []) this.classes.set(name, this.classes.get(name) ?? 0);
  }

  private count(name: string | undefined, size: string): void {
    this.images++;
    if (name !== undefined) this.classes.set(name, (this.classes.get(name) ?? 0) + 1);
    this.sizes.set(size, (this.sizes.get(size) ?? 0) + 1);
  }

  resident(set: ImageSet): void {
    this.expect(set.classes);
    const size = `${set.resident?.width} x ${set.resident?.height}`;
    for (let i = 0; i < set.count; i++) this.count(set.labels ? set.classes?.[set.labels[i]!] : undefined, size);
  }

  async folder(
    { root, files, labels, classes }: ImageListing,
    options: Pick<OpenOptions, 'limitInputPixels' | 'concurrency'>,
    done: () => void,
  ): Promise<void> {
    const reasons = new Map<number, string>();
    this.expect(classes);
    await forEachParallel(files.length, options.concurrency ?? availableParallelism(), async (i) => {
      try {
        const { width, height } = await decodeImage(join(root, files[i]!), 3, options.limitInputPixels);
        this.count(labels ? classes?.[labels[i]!] : undefined, `${width} x ${height}`);
      } catch (error) {
        if (!(error instanceof SopError)) throw error;
        reasons.set(i, error.complaint.why);
      }
      done();
    });
    const order = [...reasons].sort(([a], [b]) => a - b);
    this.bad.push(...order.map(([i, reason]) => ({ file: join(root, files[i]!), reason })));
  }
}
