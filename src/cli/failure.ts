import { CommanderError } from 'commander';
import { isShortage, tooLittle } from '../data/node/io-errors.js';
import { ExitCode, SopError } from '../errors.js';
import { oneLine } from './one-line.js';

/** Every way of failing becomes one line and an exit code. */
export interface Failure {
  readonly exitCode: number;
  /** Without the prefix `sop-gpu: error: `. */
  readonly message: string;
  readonly stack: string | undefined;
}

/**
 * What the parser of command lines complains about, in our words; its suggestion becomes the advice.
 *
 * @param name the command in whose arguments it found the fault: `sop-gpu eval knn`
 */
export function usageError(error: CommanderError, name: string): SopError {
  const message = error.message.replace(/^error: /, '');
  const suggestion = message.match(/\(Did you mean (?:one of )?(.+?)\?\)/s)?.[1];
  const fix = suggestion === undefined ? `see ${name} --help` : `did you mean ${suggestion}?`;
  const quoted = message.match(/'([^']*)'/)?.[1] ?? '';
  const complaints: Readonly<Record<string, readonly [what: string, why: string]>> = {
    'commander.unknownOption': [`unknown flag ${quoted}`, 'it has no such flag'],
    'commander.unknownCommand': [`unknown command ${quoted}`, 'there is no such command'],
    'commander.optionMissingArgument': [`no value for ${quoted.split(' ')[0]}`, `expected ${quoted}`],
    'commander.excessArguments': ['too many words', (message.split('.')[1] ?? message).trim()],
  };
  const [what, why] = complaints[error.code] ?? ['bad command line', message];
  return new SopError(ExitCode.usage, { what, where: name, why, fix }, { cause: error });
}

/** @param command what was running, for errors that nobody foresaw */
export function describeFailure(error: unknown, command: string): Failure {
  if (error instanceof SopError) {
    return { exitCode: error.exitCode, message: oneLine(error.message), stack: stackOf(error) };
  }
  // Modules are loaded as they are needed, files and devices opened: any of it may meet the limits of the process.
  if (isShortage(error)) return describeFailure(tooLittle(command, error), command);
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const message = oneLine(`internal error (${command}): ${text}; run it again with --debug and report what it prints`);
  return { exitCode: ExitCode.internal, message, stack: stackOf(error) };
}

function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause) ?? String(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}

/** Help and version are no failures, though the parser throws them. */
export function isAnswered(error: unknown): boolean {
  const answers = ['commander.helpDisplayed', 'commander.help', 'commander.version'];
  return error instanceof CommanderError && answers.includes(error.code);
}
