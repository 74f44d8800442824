import { type ChildProcess, spawn } from 'node:child_process';
import { stepOf } from '../data/checkpoint.js';
import { checkpointNames, checkpointPath } from '../data/node/checkpoints.js';
import { readSafetensorsHeader } from '../data/node/files.js';
import { ExitCode, SopError } from '../errors.js';
import type { Outcome } from './command.js';
import type { Printer } from './printer.js';
import { stops } from './signals.js';

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const;

/** Windows has consoles, of which Ctrl-C reaches all processes, and no signals but one that kills. */
const signalled = process.platform !== 'win32';

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * `train --supervise`: the same command as a child, started again with `--resume` where it died by a signal (a crash of the
 * driver, the kernel short of memory) or lost its device, provided that its checkpoint went on since its last start.
 */
export async function superviseTraining(out: string, printer: Printer): Promise<Outcome> {
  const words = process.argv.slice(2).filter((word) => word !== '--supervise');
  let child: ChildProcess | undefined;
  let asked: keyof typeof stops | undefined;
  const forward = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGINT' || signal === 'SIGTERM') asked ??= signal;
    if (signalled) child?.kill(signal);
  };
  for (const signal of forwarded) process.on(signal, forward);
  try {
    for (let before = await newestStep(out); ; ) {
      child = start(words);
      const { code, signal } = await ending(child);
      // The child printed its own line, and asked signals end it in good order.
      if (signal === null && code !== ExitCode.tryAgain) return code ? { stoppedBy: code } : {};
      const after = await newestStep(out);
      // It died of the signal before it could do that, or the signal came when it was gone.
      if (asked !== undefined) return { stoppedBy: stops[asked] };
      const how = signal === null ? 'lost its device' : `died by ${signal}`;
      if (after <= before) {
        throw new SopError(signal === null ? ExitCode.tryAgain : ExitCode.internal, {
          what: `training ${how}`,
          where: out,
          why: `it made no progress since its last start (step ${Math.max(0, after)})`,
          fix: 'see sop-gpu doctor, try another --adapter or a smaller --batch-size',
        });
      }
      printer.warn(`training ${how}: starting it again from its checkpoint of step ${after}`);
      if (!words.includes('--resume')) words.splice(0, words.length, ...resumed(words));
      before = after;
    }
  } finally {
    for (const signal of forwarded) process.removeListener(signal, forward);
  }
}

/** The command that goes on with the run: weights to begin with are for its first start alone. */
function resumed(words: readonly string[]): string[] {
  const ofInit = (word: string, i: number): boolean => /^--init(=|$)/.test(word) || words[i - 1] === '--init';
  return [...words.filter((word, i) => !ofInit(word, i)), '--resume'];
}

/** Step of the newest checkpoint whose header can be read; -1 where there is none. */
async function newestStep(out: string): Promise<number> {
  let newest = -1;
  for (const name of checkpointNames) {
    const path = checkpointPath(out, name);
    try {
      newest = Math.max(newest, stepOf((await readSafetensorsHeader(path)).metadata, path));
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
    }
  }
  return newest;
}

/** The command in a process group of its own, so that Ctrl-C reaches it once, from here. It dies with us (bin/launch.js). */
function start(words: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', ...words], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, SOP_GPU_LAUNCHER: String(process.pid) },
    detached: signalled,
  });
}

function ending(child: ChildProcess): Promise<Ending> {
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
}
