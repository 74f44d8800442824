import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import * as assert from 'uvu/assert';
import { type ExitCode, SopError } from '../src/errors.js';
import { numbers } from './data-support.js';
import { rounds, seed } from './rounds-support.js';

/** One kind of hostile input: how it is drawn, and what reads it. */
export interface Fuzz<T> {
  /** Plural, for messages: `mutated IDX files`. */
  readonly what: string;
  /** Inputs in `npm test`; 100,000 in `npm run test:long`. */
  readonly few: number;
  /** The exit codes that a refusal may have. */
  readonly exits: readonly ExitCode[];
  draw(next: (below: number) => number): T;
  /** Reads it whole, checks what comes out, and throws the named error where it is refused. */
  read(input: T): unknown;
  /** The input in a message. */
  show(input: T): string;
  /** At least this share is refused: inputs that all are fine test nothing. */
  readonly refused: number;
}

const MANY = 100_000;
/** An input takes well under a second; other work on the machine may stretch that. */
const MOST_SECONDS = 5;
/** Nothing comes back after so long: it hangs. */
const HANG_SECONDS = 60;
/** What stays after all inputs but the first tenth: caches and compiled code, not a share of each input. */
const MOST_GROWTH = 4 * 2 ** 20;
/** The same of the whole process, which the allocator and the last garbage make uncertain. */
const MOST_RESIDENT_GROWTH = 128 * 2 ** 20;

/** What every error says in its one line: what (where): why; what to do. */
const NAMED = /^[^\n]+ \([^\n]*\): [^\n]+; [^\n]+$/;

/**
 * Mutated inputs, the same for a seed: each ends in a named error or a valid result, in time, and leaves no memory behind.
 * An input that hangs ends the process, with its number.
 */
export async function fuzz<T>({ what, few, exits, draw, read, show, refused: share }: Fuzz<T>): Promise<void> {
  const next = numbers(seed);
  const watch = watchForHangs(what);
  let [count, refused] = [0, 0];
  let before = memory();
  try {
    for (const round of rounds(what, few, MANY)) {
      if (round === Math.floor(few / 10)) before = memory();
      const input = draw(next);
      watch.begin(round);
      const started = performance.now();
      try {
        await read(input);
      } catch (error) {
        const named = error instanceof SopError && exits.includes(error.exitCode) && NAMED.test(error.message);
        if (!named) throw new Error(`number ${round} of the ${what}, ${show(input)}: ${error}`, { cause: error });
        refused++;
      }
      const seconds = (performance.now() - started) / 1000;
      assert.ok(seconds < MOST_SECONDS, `number ${round} of the ${what} took ${seconds} s: ${show(input)}`);
      count++;
    }
  } finally {
    await watch.end();
  }
  assert.ok(refused >= share * count, `${refused} of ${count} ${what} refused`);
  const after = memory();
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  assert.ok(after.live - before.live < MOST_GROWTH, `${count} ${what} left ${mib(after.live - before.live)} behind`);
  assert.ok(
    after.resident - before.resident < MOST_RESIDENT_GROWTH,
    `the process grew by ${mib(after.resident - before.resident)} with ${count} ${what}`,
  );
}

/** Bytes that are reachable, and those of the process. */
function memory(): { live: number; resident: number } {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  const { heapUsed, external, rss } = process.memoryUsage();
  return { live: heapUsed + external, resident: rss };
}

/** A parser that hangs stops everything in its thread: another one looks whether rounds go on. */
function watchForHangs(what: string): { begin(round: number): void; end(): Promise<unknown> } {
  const round = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { workerData: { round, what, seconds } } = require('node:worker_threads');
    let [last, since] = [-1, Date.now()];
    setInterval(() => {
      const now = Atomics.load(round, 0);
      if (now !== last) [last, since] = [now, Date.now()];
      else if (Date.now() - since > 1000 * seconds) {
        require('node:fs').writeSync(2, 'number ' + now + ' of the ' + what + ' hangs\\n');
        process.kill(process.pid, 'SIGKILL');
      }
    }, 500);`,
    { eval: true, workerData: { round, what, seconds: HANG_SECONDS } },
  );
  worker.unref();
  return { begin: (at) => void Atomics.store(round, 0, at), end: () => worker.terminate() };
}
