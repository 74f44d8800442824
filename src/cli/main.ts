import { resolve } from 'node:path';
import { Argument, Option, Command as Parser } from 'commander';
import { ExitCode, SopError } from '../errors.js';
import { silenceDrivers } from '../node/driver-chatter.js';
import { ownVersion } from '../node/version.js';
import type { Command, Outcome } from './command.js';
import { commands, groups } from './commands.js';
import { describeFailure, isAnswered, usageError } from './failure.js';
import { type Flag, type Flags, flagName } from './flags.js';
import { type CommonOptions, commonFlags } from './options.js';
import { checkCreatable, writeJson } from './output-file.js';
import { Printer } from './printer.js';
import { Interrupted, type StopRequest, watchSignals } from './signals.js';
import { lastNews, surviveLostOutput } from './standard-streams.js';

const program = 'sop-gpu';

/** Makes a parser throw our errors, and print nothing but help. */
function tame(parser: Parser, name: string): Parser {
  return parser
    .helpOption('-h, --help', 'show this')
    .configureOutput({ writeErr: () => undefined, outputError: () => undefined })
    .exitOverride((error) => {
      throw isAnswered(error) ? error : usageError(error, name);
    });
}

function addFlag(parser: Parser, { syntax, help, kind, required, parse }: Flag<unknown>): void {
  const option = new Option(syntax, required ? `${help} (required)` : help);
  if (kind === 'value') option.argParser(parse);
  // One list of all that was given, in order.
  if (kind === 'repeated') option.argParser((text, before: unknown[] = []) => before.concat(parse(text)));
  parser.addOption(option);
}

/** Flags by the names that the command declared them with, whatever the parser calls them. */
function valuesOf(parser: Parser, flags: Flags, command: string): Record<string, unknown> {
  const entries = Object.entries(flags).map(([name, { syntax, kind, required }]) => {
    const value: unknown = parser.getOptionValue(new Option(syntax).attributeName());
    // Asked here and not by the parser, which would complain of it before a misspelt flag.
    if (required && value === undefined) {
      const what = `${flagName(syntax)} is missing`;
      throw new SopError(ExitCode.usage, { what, where: command, why: `it needs ${syntax}`, fix: `add ${syntax}` });
    }
    const absent = kind === 'switch' ? false : kind === 'repeated' ? [] : undefined;
    return [name, value ?? absent] as const;
  });
  return Object.fromEntries(entries);
}

/** What is written must be neither read nor written by another flag. @throws SopError (64) naming both flags and the file */
function checkDistinct(flags: Flags, values: Readonly<Record<string, unknown>>): void {
  const seen = new Map<string, { readonly name: string; readonly file: Flag<unknown>['file'] }>();
  for (const [key, { syntax, file }] of Object.entries(flags)) {
    const where = values[key];
    // Two results may both go to /dev/null.
    if (file === undefined || typeof where !== 'string' || resolve(where).startsWith('/dev/')) continue;
    const name = flagName(syntax);
    const other = seen.get(resolve(where));
    if (other !== undefined && (file === 'written' || other.file === 'written')) {
      const what = `${name} and ${other.name} share a file`;
      const [why, fix] = ['the one would overwrite the other', `give ${name} another name`];
      throw new SopError(ExitCode.usage, { what, where, why, fix });
    }
    seen.set(resolve(where), { name, file });
  }
}

async function execute(command: Command, parser: Parser, stop: StopRequest): Promise<Outcome> {
  const name = `${program} ${command.path.join(' ')}`;
  const common = valuesOf(parser, commonFlags, name) as CommonOptions;
  const flags = valuesOf(parser, command.flags, name);
  checkDistinct({ ...command.flags, ...commonFlags }, { ...flags, ...common });
  if (common.json !== undefined) await checkCreatable(common.json);
  const printer = new Printer(common.quiet);
  const outcome = await command.run({ flags, operands: parser.args, common, printer, stop });
  if (common.json !== undefined && outcome.result !== undefined) await writeJson(common.json, outcome.result);
  return outcome;
}

function register(root: Parser, command: Command, more: string, run: (parser: Parser) => Promise<void>): void {
  let parent = root;
  for (const word of command.path.slice(0, -1)) {
    const found = parent.commands.find((child) => child.name() === word);
    parent =
      found ?? tame(parent.command(word).helpCommand(false), `${program} ${word}`).description(groups.get(word) ?? '');
  }
  const name = `${program} ${command.path.join(' ')}`;
  const parser = tame(parent.command(command.path.at(-1)!), name).description(command.summary);
  if (command.operands) parser.addArgument(new Argument(command.operands.syntax, command.operands.help));
  for (const flag of [...Object.values(command.flags), ...Object.values(commonFlags)]) addFlag(parser, flag);
  parser.addHelpText('after', `\nExample:\n  $ ${command.example}\n${more}`);
  parser.action(() => run(parser));
}

/** The command that is called, as far as the words tell: for messages, and for the one help text that is made. */
function called(argv: readonly string[]): Command | undefined {
  const words = argv.filter((word) => !word.startsWith('-'));
  return commands.find(({ path }) => path.every((word, i) => words[i] === word));
}

const asksForHelp = (word: string): boolean => word === '--help' || word === '-h';

/** `help eval knn` is `eval knn --help`. A word that is no command is said to be unknown, help or not. */
function readable(argv: readonly string[]): readonly string[] {
  const words = argv[0] === 'help' ? [...argv.slice(1).filter((word) => !word.startsWith('-')), '--help'] : argv;
  const given = words.filter((word) => !word.startsWith('-'));
  const known = commands.some(({ path }) => path.every((word, i) => (given[i] ?? word) === word));
  return known ? words : words.filter((word) => !asksForHelp(word));
}

async function parseAndRun(given: readonly string[], stop: StopRequest): Promise<Outcome> {
  const argv = readable(given);
  const root = tame(new Parser(program), program)
    .description('Trains vision transformers without labels, by self-organizing prototypes, on WebGPU.')
    .version(ownVersion(), '-V, --version', 'show the version')
    .helpCommand('help [command...]', 'show the help of a command');
  let outcome: Outcome = {};
  const wanted = called(argv);
  for (const command of commands) {
    const more = command === wanted && command.more ? await command.more() : '';
    register(root, command, more, async (parser) => {
      outcome = await execute(command, parser, stop);
    });
  }
  const group = argv.length === 1 ? root.commands.find((child) => child.name() === argv[0]) : undefined;
  const incomplete = argv.length === 0 ? root : group && group.commands.length > 0 ? group : undefined;
  if (incomplete) {
    incomplete.outputHelp();
    const where = [program, ...argv].join(' ');
    const fix = 'name one of those listed';
    throw new SopError(ExitCode.usage, { what: 'no command', where, why: 'it needs the name of one', fix });
  }
  await root.parseAsync(argv, { from: 'user' });
  return outcome;
}

function printFailure(message: string, stack: string | undefined, debug: boolean): void {
  process.stderr.write(`${program}: error: ${message}\n${debug && stack !== undefined ? `${stack}\n` : ''}`);
}

/**
 * Runs one command.
 *
 * @param argv the words after the program's name
 * @returns the exit code; nothing is thrown. Every code but 0, 130 and 143 has printed its one line on stderr
 */
export async function main(argv: readonly string[]): Promise<number> {
  const debug = argv.includes('--debug');
  silenceDrivers();
  const command = called(argv);
  const name = command?.path.join(' ') ?? program;
  const logs = command?.logs === true && !argv.some(asksForHelp);
  const fatal = (error: unknown) => {
    const { exitCode, message, stack } = describeFailure(error, name);
    printFailure(message, stack, debug);
    process.exit(exitCode);
  };
  let lost: SopError | undefined;
  surviveLostOutput((failure) => {
    const first = lost === undefined;
    lost ??= failure;
    if (first && logs)
      process.stderr.write(`${program}: warning: ${failure.message}; the run goes on, its log has all\n`);
  });
  // What is thrown where no one awaits would else end with a stack and exit code 1.
  process.on('uncaughtException', fatal);
  const stop = watchSignals();
  try {
    const { failure, stoppedBy } = await parseAndRun(argv, stop).catch((error: unknown): Outcome => {
      if (isAnswered(error)) return {};
      throw error;
    });
    if (failure) printFailure(failure.message, undefined, debug);
    await lastNews();
    if (lost && !logs && !failure && stoppedBy === undefined) throw lost;
    return failure?.exitCode ?? stoppedBy ?? 0;
  } catch (error) {
    if (error instanceof Interrupted && stop.exitCode !== null) return stop.exitCode;
    const { exitCode, message, stack } = describeFailure(error, name);
    printFailure(message, stack, debug);
    return exitCode;
  } finally {
    process.removeListener('uncaughtException', fatal);
    stop.dispose();
  }
}
