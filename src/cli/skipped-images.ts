import { appendFileSync, readFileSync } from 'node:fs';
import type { BadImage } from '../data/node/folder-set.js';
import { cannotWrite, errorCode } from '../data/node/io-errors.js';
import type { Printer } from './printer.js';

/** The images that a command left out: a warning for each and, once there is a file, a line there, each image once. */
export class SkippedImages {
  readonly list: BadImage[] = [];
  private path: string | undefined;
  private readonly listed = new Set<string>();

  constructor(private readonly printer: Printer) {}

  readonly add = (bad: BadImage): void => {
    this.list.push(bad);
    this.printer.warn(`skipped ${bad.file}: ${bad.reason}`);
    this.write([bad]);
  };

  /** From now on all go into this file too, in addition to what an earlier part of the run wrote there. */
  listIn(path: string): void {
    this.path = path;
    for (const line of linesOf(path)) this.listed.add(line);
    this.write(this.list);
  }

  private write(images: readonly BadImage[]): void {
    if (this.path === undefined) return;
    const lines = images.map(({ file, reason }) => `${file}\t${reason}`.replace(/[\r\n]+/g, ' '));
    const fresh = lines.filter((line) => !this.listed.has(line));
    if (fresh.length === 0) return;
    for (const line of fresh) this.listed.add(line);
    try {
      appendFileSync(this.path, `${fresh.join('\n')}\n`);
    } catch (error) {
      // The list is for people; the warnings said the same.
      this.printer.warn(cannotWrite(this.path, error, 'write').message);
    }
  }
}

function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw cannotWrite(path, error, 'create');
  }
}
