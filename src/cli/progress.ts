import { MultiBar, type SingleBar } from 'cli-progress';
import pc from 'picocolors';
import type { Printer, StatusLine } from './printer.js';

/** Progress for people: one line that is redrawn on a terminal, a plain line now and then elsewhere. */

/** Where progress goes and what time it is; tests give their own. */
export interface ProgressSurface {
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Milliseconds that only rise. */
  readonly now: () => number;
}

const standardSurface: ProgressSurface = { stream: process.stdout, now: () => performance.now() };

/** Between two plain lines, ms. */
const plainInterval = 5000;
/** Time left is told from the speed of this long a past, ms: long enough to be steady, short enough to follow. */
const speedWindow = 30_000;

/** `4 s`, `12:05`, `3:02:09`, `2 d 03:00`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const total = Math.max(0, Math.round(seconds));
  const two = (value: number) => String(value).padStart(2, '0');
  const [days, hours, minutes] = [
    Math.floor(total / 86400),
    Math.floor(total / 3600) % 24,
    Math.floor(total / 60) % 60,
  ];
  if (total < 60) return `${total} s`;
  if (days > 0) return `${days} d ${two(hours)}:${two(minutes)}`;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

/** Three digits for small rates, whole numbers for large ones. */
export function formatRate(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** `  12:05 left`, where it can be told. @param pace shares of the work done in a second */
function timeLeft(fraction: number, pace: number): string {
  const seconds = fraction >= 1 ? 0 : (1 - fraction) / pace;
  return Number.isFinite(seconds) ? `  ${formatDuration(seconds)} left` : '';
}

/** A line with a bar, redrawn in place; on a terminal only. */
class LiveLine implements StatusLine {
  private readonly bars: MultiBar;
  private readonly bar: SingleBar;

  constructor(stream: NodeJS.WritableStream) {
    const format = `${pc.cyan('{bar}')} {text}`;
    const options = { format, stream, fps: 8, barsize: 18, hideCursor: true, linewrap: false, clearOnComplete: true };
    this.bars = new MultiBar({ ...options, gracefulExit: false, emptyOnZero: true }, shapes);
    this.bar = this.bars.create(1000, 0, { text: '' });
  }

  show(fraction: number, text: string): void {
    this.bar.update(Math.round(1000 * fraction), { text });
  }

  above(text: string): void {
    this.bars.log(`${text}\n`);
    this.bars.update();
  }

  stop(): void {
    this.bars.stop();
  }
}

const shapes = { format: '', barCompleteChar: '━', barIncompleteChar: '─' };

/** Shared by all progress: live on a terminal, plain lines elsewhere, nothing when quiet, always in the log. */
class ProgressLine {
  private readonly live: LiveLine | undefined;
  private readonly start: number;
  private lastPlain: number;
  private readonly past: { readonly at: number; readonly fraction: number }[] = [];

  constructor(
    private readonly printer: Printer,
    private readonly surface: ProgressSurface,
  ) {
    this.start = surface.now();
    this.lastPlain = this.start;
    // A terminal without a cursor that moves (the shell of an editor, a serial console) gets plain lines.
    const redraws = surface.stream.isTTY === true && process.env['TERM'] !== 'dumb';
    this.live = redraws && !printer.quiet ? new LiveLine(surface.stream) : undefined;
    if (this.live) printer.setStatus(this.live);
  }

  /** Shares of the whole work done in a second, as it went lately; NaN before that can be told. */
  pace(fraction: number): number {
    const at = this.surface.now();
    this.past.push({ at, fraction });
    while (this.past.length > 2 && at - this.past[1]!.at > speedWindow) this.past.shift();
    const { at: since, fraction: before } = this.past[0]!;
    return fraction > before ? (1000 * (fraction - before)) / (at - since) : Number.NaN;
  }

  /** @param force print a plain line now, whatever the time */
  show(fraction: number, text: string, force: boolean): void {
    this.live?.show(Math.min(1, Math.max(0, fraction)), text);
    const now = this.surface.now();
    if (!force && now - this.lastPlain < plainInterval) return;
    this.lastPlain = now;
    if (this.live) this.printer.record(text);
    else this.printer.line(text);
  }

  stop(): void {
    this.live?.stop();
    if (this.live) this.printer.setStatus(undefined);
  }
}

/** Counts things done of a known number: images that are read, pipelines that are compiled. */
export class CountProgress {
  private readonly line: ProgressLine;

  constructor(
    private readonly noun: string,
    printer: Printer,
    surface: ProgressSurface = standardSurface,
  ) {
    this.line = new ProgressLine(printer, surface);
  }

  update(done: number, total: number): void {
    const fraction = total === 0 ? 1 : done / total;
    const pace = this.line.pace(fraction);
    const rate = Number.isFinite(pace) ? `  ${formatRate(pace * total)}/s` : '';
    const left = done < total ? timeLeft(fraction, pace) : '';
    this.line.show(fraction, `${done}/${total} ${this.noun}${rate}${left}`, false);
  }

  stop(): void {
    this.line.stop();
  }
}

/** What the training line shows. */
export interface TrainProgressState {
  readonly step: number;
  /** Steps in all; undefined while only the minutes of the run are known. */
  readonly steps?: number | undefined;
  /** Share of the run that is done, 0 to 1: of its steps, or of its minutes. */
  readonly fraction: number;
  readonly lossCls: number;
  readonly lossPatch: number;
  readonly imagesPerSecond: number;
}

/** The line of a training run: step, both losses, images/s, time left. */
export class TrainProgress {
  private readonly line: ProgressLine;
  private lastStep = 0;

  /** @param every steps between plain lines (`log.every`); 0: by time */
  constructor(
    printer: Printer,
    private readonly every = 0,
    surface: ProgressSurface = standardSurface,
  ) {
    this.line = new ProgressLine(printer, surface);
  }

  update(state: TrainProgressState): void {
    const { step, steps, fraction, lossCls, lossPatch, imagesPerSecond } = state;
    const parts = [
      `step ${step}${steps === undefined ? '' : `/${steps}`}`,
      `cls ${lossCls.toFixed(3)}`,
      `patch ${lossPatch.toFixed(3)}`,
      `${formatRate(imagesPerSecond)} images/s`,
    ].join('  ');
    const text = `${parts}${timeLeft(fraction, this.line.pace(fraction))}`;
    const due = this.every > 0 && Math.floor(step / this.every) > Math.floor(this.lastStep / this.every);
    this.lastStep = step;
    this.line.show(fraction, text, due || fraction >= 1);
  }

  stop(): void {
    this.line.stop();
  }
}
