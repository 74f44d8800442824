import type { Flags, FlagValues } from './flags.js';
import type { CommonOptions } from './options.js';
import type { Printer } from './printer.js';
import type { StopRequest } from './signals.js';

/** What a command is called with. */
export interface Invocation<F extends Flags> {
  readonly flags: FlagValues<F>;
  readonly operands: readonly string[];
  readonly common: CommonOptions;
  readonly printer: Printer;
  readonly stop: StopRequest;
}

/** How a command ended when it did not throw. */
export interface Outcome {
  /** For `--json`. */
  readonly result?: unknown;
  /** A failure whose report is nevertheless complete: the exit code, and the line for stderr after its prefix. */
  readonly failure?: { readonly exitCode: number; readonly message: string } | undefined;
  /** 130 or 143 where a signal ended the work in good order; needs no line. */
  readonly stoppedBy?: number | undefined;
}

/** A command as the table in commands.ts declares it. */
export interface Command<F extends Flags = Flags> {
  /** `['eval', 'knn']` for `sop-gpu eval knn`. */
  readonly path: readonly string[];
  readonly summary: string;
  /** A command line that works, for `--help`. */
  readonly example: string;
  readonly flags: F;
  /** All that it prints is in a file as well: stdout may be lost. */
  readonly logs?: boolean;
  /** Words that are no flags, `[op...]`, where the command takes some. */
  readonly operands?: { readonly syntax: string; readonly help: string };
  /** More text at the end of `--help`. */
  readonly more?: () => Promise<string>;
  /** A method, not a property: so commands with different flags go into one table. */
  run(invocation: Invocation<F>): Promise<Outcome>;
}

/** Gives a declaration its type: flags are inferred, and `run` gets their values. */
export function defineCommand<F extends Flags>(command: Command<F>): Command {
  return command;
}
