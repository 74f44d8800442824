import * as v from 'valibot';

/**
 * Builders of the leaves of the configuration. Every check of a leaf carries the same text, what is expected,
 * so that one sentence ("expected an integer >= 1, got 0") serves all ways of being wrong.
 */

/** What `--help` and error messages say about a key. */
export interface FieldNote {
  /** A phrase for people: what the value does, with its unit. */
  readonly help: string;
  /** Completes "expected ...". */
  readonly expected: string;
}

interface Range {
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
  readonly below?: number;
}

function describe(noun: string, { min, above, max, below }: Range): string {
  const bounds = Object.entries({ '>=': min, '>': above, '<=': max, '<': below });
  const told = bounds.flatMap(([sign, bound]) => (bound === undefined ? [] : `${sign} ${bound}`));
  return `${noun} ${told.join(' and ')}`.trim();
}

function within(
  value: number,
  { min = -Infinity, above = -Infinity, max = Infinity, below = Infinity }: Range,
): boolean {
  return Number.isFinite(value) && value >= min && value > above && value <= max && value < below;
}

const realIn = (range: Range, expected: string) =>
  v.pipe(
    v.number(expected),
    v.check((value) => within(value, range), expected),
  );

const integerIn = (range: Range, expected: string) =>
  v.pipe(
    v.number(expected),
    v.check((value) => Number.isSafeInteger(value) && within(value, range), expected),
  );

/** A leaf with what is said of it. */
const noted = <S extends v.GenericSchema>(schema: S, help: string, expected: string) =>
  v.pipe(schema, v.metadata({ help, expected } satisfies FieldNote));

export function real(fallback: number, range: Range, help: string) {
  const expected = describe('a number', range);
  return noted(v.optional(realIn(range, expected), fallback), help, expected);
}

export function integer(fallback: number, range: Range, help: string) {
  const expected = describe('an integer', range);
  return noted(v.optional(integerIn(range, expected), fallback), help, expected);
}

/** A number that follows from others where it is left out (null). */
export function derivedReal(range: Range, help: string) {
  const expected = describe('a number', range);
  return noted(v.nullish(realIn(range, expected), null), help, expected);
}

/** An integer that follows from others where it is left out (null). */
export function derivedInteger(range: Range, help: string) {
  const expected = describe('an integer', range);
  return noted(v.nullish(integerIn(range, expected), null), help, expected);
}

export function toggle(fallback: boolean, help: string) {
  const expected = 'true or false';
  return noted(v.optional(v.boolean(expected), fallback), help, expected);
}

export function choice<const T extends readonly [string, ...string[]]>(options: T, fallback: T[number], help: string) {
  const expected = options.length === 1 ? options[0] : `${options.slice(0, -1).join(', ')} or ${options.at(-1)}`;
  return noted(v.optional(v.picklist(options, expected), fallback), help, expected);
}

/** A number, or one word that stands for a rule. */
export function realOr<const W extends string>(word: W, fallback: number, range: Range, help: string) {
  const expected = `${describe('a number', range)}, or ${word}`;
  const schema = v.union([realIn(range, expected), v.picklist([word], expected)], expected);
  return noted(v.optional(schema, fallback), help, expected);
}

/** Two numbers, the smaller first. */
export function interval(fallback: readonly [number, number], range: Range, help: string) {
  const expected = `two numbers, the smaller first, each ${describe('', range)}`;
  const schema = v.pipe(
    v.array(realIn(range, expected), expected),
    v.check((ends) => ends.length === 2 && ends[0]! <= ends[1]!, expected),
    v.transform((ends) => ends as [number, number]),
  );
  return noted(v.optional(schema, [...fallback]), help, expected);
}

/** One value for each kind of view (first global, second global, local), or one for all of them. */
export function perView(fallback: readonly [number, number, number], range: Range, help: string) {
  const expected = `${describe('a number', range)}, or three: first global, second global, local view`;
  const one = realIn(range, expected);
  const schema = v.union(
    [
      v.pipe(
        one,
        v.transform((value): [number, number, number] => [value, value, value]),
      ),
      v.pipe(
        v.array(one, expected),
        v.check(({ length }) => length === 3, expected),
        v.transform((list) => list as [number, number, number]),
      ),
    ],
    expected,
  );
  return noted(v.optional(schema, [...fallback]), help, expected);
}

/** Numbers for one channel or three; null where the data decide. */
export function perChannel(range: Range, help: string) {
  const expected = `one number or three, each ${describe('', range) || 'finite'}`;
  const one = realIn(range, expected);
  const schema = v.union(
    [
      v.pipe(
        one,
        v.transform((value) => [value]),
      ),
      v.pipe(
        v.array(one, expected),
        v.check((list) => list.length === 1 || list.length === 3, expected),
      ),
    ],
    expected,
  );
  return noted(v.nullish(schema, null), help, expected);
}

/** Different integers in rising order; one alone needs no brackets. */
export function integerList(fallback: readonly number[], range: Range, help: string) {
  const expected = describe('different integers', range);
  const one = integerIn(range, expected);
  const schema = v.union(
    [
      v.pipe(
        one,
        v.transform((value) => [value]),
      ),
      v.pipe(
        v.array(one, expected),
        v.check((list) => list.length > 0 && new Set(list).size === list.length, expected),
        v.transform((list) => [...list].sort((a, b) => a - b)),
      ),
    ],
    expected,
  );
  return noted(v.optional(schema, [...fallback]), help, expected);
}

/** `error`, or `skip:N` with how many in a row. */
export function skipPolicy(help: string) {
  const expected = 'error, or skip:N with N from 1 to 1000';
  const valid = (text: string): boolean =>
    text === 'error' || (/^skip:[1-9]\d{0,3}$/.test(text) && skipsOf(text) <= 1000);
  const schema = v.pipe(v.string(expected), v.check(valid, expected));
  return noted(v.optional(schema, 'error'), help, expected);
}

/** How many in a row a policy skips; 0 for `error`. */
export function skipsOf(policy: string): number {
  return Number(policy.split(':')[1] ?? 0);
}

/** A text that may be absent (null). */
export function optionalText(help: string) {
  const expected = 'a text that is not empty';
  const schema = v.pipe(
    v.string(expected),
    v.check((text) => text.trim() !== '', expected),
  );
  return noted(v.nullish(schema, null), help, expected);
}
