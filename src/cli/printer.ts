import { stripVTControlCharacters } from 'node:util';
import { oneLine } from './one-line.js';

/** A line at the bottom of a terminal that stays there while others are printed above it. */
export interface StatusLine {
  /** Prints a line above the status line. */
  above(text: string): void;
}

/** What a command says to people. Also goes, without colours, to every sink (`train.log`). */
export class Printer {
  private readonly sinks: ((line: string) => void)[] = [];
  private status: StatusLine | undefined;

  constructor(
    /** Nothing on stdout; sinks and warnings still get everything. */
    readonly quiet: boolean,
    private readonly out: NodeJS.WritableStream = process.stdout,
    private readonly err: NodeJS.WritableStream & { readonly isTTY?: boolean } = process.stderr,
  ) {}

  /** Prints to stdout. */
  line(text = ''): void {
    if (this.status && !this.quiet) this.status.above(text);
    else if (!this.quiet) this.out.write(`${text}\n`);
    this.record(text);
  }

  lines(texts: Iterable<string>): void {
    for (const text of texts) this.line(text);
  }

  /** Prints what must be seen though nothing failed: to stderr, also when quiet. */
  warn(text: string): void {
    const line = `sop-gpu: warning: ${oneLine(text)}`;
    // Two streams on one terminal share its lines; a redirected stderr gets what belongs to it.
    if (this.status && !this.quiet && this.err.isTTY === true) this.status.above(line);
    else this.err.write(`${line}\n`);
    this.record(line);
  }

  /** Writes to the sinks alone: what a terminal shows in another form (a progress bar). */
  record(text: string): void {
    const plain = stripVTControlCharacters(text);
    for (const sink of this.sinks) sink(plain);
  }

  /** Sends every line to `sink` too; the function returned ends that. */
  tee(sink: (line: string) => void): () => void {
    this.sinks.push(sink);
    return () => {
      this.sinks.splice(this.sinks.indexOf(sink), 1);
    };
  }

  /** From now on lines go above `status`; undefined ends that. */
  setStatus(status: StatusLine | undefined): void {
    this.status = status;
  }
}
