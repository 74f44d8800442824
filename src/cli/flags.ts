import { ExitCode, SopError } from '../errors.js';

/** Typed flags: what a command declares is what its function gets. Knows nothing of the parser that finds them. */
export interface Flag<T> {
  /** As in help: `--batch-size <images>`, `--resume`. */
  readonly syntax: string;
  readonly help: string;
  readonly kind: 'value' | 'switch' | 'repeated';
  readonly required: boolean;
  /** What happens to the file or folder that it names, where it names one. */
  readonly file?: 'read' | 'written' | undefined;
  /** @throws SopError (64) for a text that is no such value */
  readonly parse: (text: string) => T;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
export type FlagValues<F extends Flags> = { readonly [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

/** `--batch-size` of `--batch-size <images>`. */
export const flagName = (syntax: string) => syntax.split(' ')[0] ?? syntax;

function bad(syntax: string, expected: string, got: string): SopError {
  const flag = flagName(syntax);
  const why = `expected ${expected}, got ${got.trim() === '' ? 'nothing' : JSON.stringify(got)}`;
  return new SopError(ExitCode.usage, { what: 'bad value', where: flag, why, fix: `write ${syntax}` });
}

const parseText = (syntax: string) => (text: string) => {
  if (text.trim() === '') throw bad(syntax, 'a text', text);
  return text;
};

type Optional<T> = Flag<T | undefined>;

export function textFlag(syntax: string, help: string, file?: Flag<unknown>['file']): Optional<string> {
  return { syntax, help, kind: 'value', required: false, file, parse: parseText(syntax) };
}

export function requiredFlag(syntax: string, help: string, file?: Flag<unknown>['file']): Flag<string> {
  return { syntax, help, kind: 'value', required: true, file, parse: parseText(syntax) };
}

export function switchFlag(syntax: string, help: string): Flag<boolean> {
  return { syntax, help, kind: 'switch', required: false, parse: () => true };
}

export function repeatedFlag(syntax: string, help: string): Flag<readonly string[]> {
  return { syntax, help, kind: 'repeated', required: false, parse: (text) => [parseText(syntax)(text)] };
}

export function choiceFlag<const T extends string>(syntax: string, choices: readonly T[], help: string): Optional<T> {
  const parse = (text: string) => {
    const found = choices.find((choice) => choice === text);
    if (found === undefined) throw bad(syntax, choices.join(' or '), text);
    return found;
  };
  return { syntax, help: `${help}: ${choices.join(' or ')}`, kind: 'value', required: false, parse };
}

/** A number greater than 0, `2.5`; nothing that JavaScript would read as one by guessing. */
export function positiveFlag(syntax: string, help: string): Optional<number> {
  const parse = (text: string) => {
    const value = /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : Number.NaN;
    if (!(value > 0 && Number.isFinite(value))) throw bad(syntax, 'a number > 0', text);
    return value;
  };
  return { syntax, help, kind: 'value', required: false, parse };
}

/** Different integers from 1, `10,20,100`, in rising order. */
export function integersFlag(syntax: string, help: string): Optional<readonly number[]> {
  const parse = (text: string) => {
    const values = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : 0));
    const good = values.every((value) => value >= 1 && Number.isSafeInteger(value));
    if (!good || new Set(values).size < values.length) throw bad(syntax, 'different integers >= 1, as 10,20', text);
    return values.sort((a, b) => a - b);
  };
  return { syntax, help, kind: 'value', required: false, parse };
}
