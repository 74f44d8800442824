import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cannotRead, cannotWrite, errorCode } from '../data/node/io-errors.js';
import { ListCounts } from './list-counts.js';
import { toJson } from './output-file.js';

/** One line of `metrics.jsonl`: of a step, or (it has `knn`) of an evaluation after that step. */
export interface MetricsRecord {
  readonly step: number;
  readonly [name: string]: unknown;
}

const newline = 0x0a;
const piece = 1 << 20;
/** No line of ours is nearly as long; without a bound a hostile file would be read into memory whole. */
const longestLine = 1 << 24;

/** The lines of an open file with their line breaks; the last one may lack its own. */
function* linesOf(file: number): Generator<Buffer> {
  const chunk = Buffer.alloc(piece);
  let rest = Buffer.alloc(0);
  for (;;) {
    const count = readSync(file, chunk, 0, piece, null);
    if (count === 0) break;
    rest = Buffer.concat([rest, chunk.subarray(0, count)]);
    let from = 0;
    for (let at = rest.indexOf(newline); at >= 0; at = rest.indexOf(newline, from)) {
      yield rest.subarray(from, at + 1);
      from = at + 1;
    }
    rest = Buffer.from(rest.subarray(from));
    if (rest.length > longestLine) return;
  }
  if (rest.length > 0) yield rest;
}

/** The step of a line that is whole, or undefined. */
function recordOf(line: Buffer): MetricsRecord | undefined {
  try {
    const value = JSON.parse(line.toString('utf8')) as MetricsRecord | null;
    return value !== null && Number.isSafeInteger(value.step) ? value : undefined;
  } catch {
    return undefined;
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const count = writeSync(file, bytes, at);
    if (count === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' });
    at += count;
  }
}

/** What was found in the file of a run that is resumed. */
export interface MetricsHistory {
  /** Steps that have no line: it was lost to a full disk, or by somebody's hand. */
  readonly missing: number;
  /** Step of the last evaluation that was kept, so that it is not made twice; 0 where there is none. */
  readonly lastEvaluation: number;
  /** Of the steps since then. */
  readonly lists: ListCounts;
}

/** A name that the sweep of temporary files knows (data/node/files.ts). */
const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.${process.pid}-0.tmp`);

/** Copies the lines of steps up to `lastStep` into the file `to`; drops later, doubled, half-written and foreign ones. */
function copyKept(source: number, to: string, lastStep: number): MetricsHistory {
  let [steps, latestStep, lastEvaluation] = [0, 0, 0];
  const lists = new ListCounts();
  const target = openSync(to, 'w');
  try {
    for (const line of linesOf(source)) {
      const record = recordOf(line);
      const isEvaluation = record !== undefined && 'knn' in record;
      const before = isEvaluation ? lastEvaluation : latestStep;
      if (record === undefined || record.step > lastStep || record.step <= before) continue;
      if (isEvaluation) lastEvaluation = record.step;
      else {
        latestStep = record.step;
        steps++;
      }
      lists.observe(record);
      writeAll(target, line.at(-1) === newline ? line : Buffer.concat([line, Buffer.of(newline)]));
    }
    fsyncSync(target);
  } finally {
    closeSync(target);
  }
  return { missing: lastStep - steps, lastEvaluation, lists };
}

/** Puts a file with what belongs to steps up to `lastStep` in the place of this one. */
function repair(path: string, lastStep: number): MetricsHistory {
  let source: number;
  try {
    source = openSync(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return { missing: lastStep, lastEvaluation: 0, lists: new ListCounts() };
    throw cannotRead(path, error);
  }
  const temporary = temporaryOf(path);
  try {
    let history: MetricsHistory;
    try {
      history = copyKept(source, temporary, lastStep);
    } finally {
      closeSync(source);
    }
    // Windows puts nothing in the place of a file that is open.
    renameSync(temporary, path);
    return history;
  } catch (error) {
    rmSync(temporary, { force: true });
    throw cannotWrite(path, error, 'write');
  }
}

/**
 * Appends lines to `metrics.jsonl`. A line is in the file, whole, when `append` returns; where the disk is full it is
 * not in the file at all. After a resume no line is doubled and none is missing, provided that the line of a step was
 * appended before the checkpoint of that step was written.
 */
export class MetricsFile {
  private constructor(
    readonly path: string,
    private file: number,
    readonly history: MetricsHistory,
  ) {}

  /**
   * @param lastStep the step that the run goes on from; 0 for a new run
   * @throws SopError 66, 73, 74
   */
  static open(path: string, lastStep = 0): MetricsFile {
    const history = repair(path, lastStep);
    try {
      return new MetricsFile(path, openSync(path, 'a+'), history);
    } catch (error) {
      throw cannotWrite(path, error, 'create');
    }
  }

  /** @throws SopError (74); the file is then as it was, and the caller may go on without this line */
  append(record: MetricsRecord): void {
    const bytes = Buffer.from(`${toJson(record)}\n`);
    let before: number | undefined;
    try {
      before = fstatSync(this.file).size;
      writeAll(this.file, bytes);
    } catch (error) {
      try {
        if (before !== undefined) ftruncateSync(this.file, before);
      } catch {} // a disk that fails altogether: a resume drops what is no whole line
      throw cannotWrite(this.path, error, 'write');
    }
  }

  /** Makes sure that all lines survive a loss of power: before a checkpoint is written. */
  sync(): void {
    try {
      fsyncSync(this.file);
    } catch (error) {
      throw cannotWrite(this.path, error, 'write');
    }
  }

  /**
   * Where the file was moved or removed, all its lines are written at its path again, and those to come go there.
   *
   * @returns whether that was so
   * @throws SopError (73, 74)
   */
  restore(): boolean {
    const temporary = temporaryOf(this.path);
    let target: number | undefined;
    try {
      const own = fstatSync(this.file);
      const there = statSync(this.path, { throwIfNoEntry: false });
      if (there?.ino === own.ino && there.dev === own.dev) return false;
      target = openSync(temporary, 'ax+');
      const chunk = Buffer.alloc(piece);
      for (let at = 0, count = 1; count > 0; at += count) {
        count = readSync(this.file, chunk, 0, piece, at);
        writeAll(target, chunk.subarray(0, count));
      }
      fsyncSync(target);
      renameSync(temporary, this.path);
    } catch (error) {
      if (target !== undefined) closeSync(target);
      rmSync(temporary, { force: true });
      throw cannotWrite(this.path, error, target === undefined ? 'create' : 'write');
    }
    closeSync(this.file);
    this.file = target;
    return true;
  }

  close(): void {
    closeSync(this.file);
  }
}
