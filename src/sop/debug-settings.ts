import * as v from 'valibot';
import { fields, parseValue, type Value } from '../config/keys.js';
import { nearestName } from '../config/nearest.js';
import { ExitCode, SopError } from '../errors.js';

/** Settings that are no configuration keys, or that a step may use with other values: what schedules decide. */
const ofStep: ReadonlyMap<
  string,
  { readonly fallback: number; readonly expected: string; ok(value: number): boolean }
> = new Map([
  ['momentum', { fallback: 0.996, expected: 'a number >= 0 and <= 1', ok: (value) => value >= 0 && value <= 1 }],
  ['step', { fallback: 1, expected: 'an integer >= 1', ok: (value) => Number.isInteger(value) && value >= 1 }],
  // The first step of a warm-up has none.
  ['optim.lr', { fallback: 5e-4, expected: 'a number >= 0', ok: (value) => Number.isFinite(value) && value >= 0 }],
]);

/** What programs write into the metadata of every file. */
const notOurs = /^(crc32\.|format$|sop-gpu\.)/;

/**
 * The settings in the metadata of a `debug step` file: configuration keys with their types, ranges and defaults, and
 * `momentum` and `step`.
 */
export class DebugSettings {
  private readonly values = new Map<string, Value>();

  /** @throws SopError 64 for a key that is unknown and a value that is not what its key takes */
  constructor(
    metadata: ReadonlyMap<string, string>,
    private readonly where: string,
  ) {
    for (const [key, text] of metadata) {
      if (notOurs.test(key)) continue;
      const own = ofStep.get(key);
      const field = fields.get(key);
      if (own) {
        const value = text.trim() === '' ? Number.NaN : Number(text);
        if (!own.ok(value)) throw this.problem(key, `expected ${own.expected}, got '${text}'`, 'correct it');
        this.values.set(key, value);
      } else if (field) {
        const { success, output } = v.safeParse(field.schema, parseValue(key, text));
        if (!success)
          throw this.problem(key, `expected ${field.expected}, got '${text}'`, 'correct it or leave it out');
        this.values.set(key, output as Value);
      } else {
        const guess = nearestName(key, [...fields.keys(), ...ofStep.keys()]);
        throw this.problem(key, 'it is no known setting', guess ? `did you mean ${guess}?` : 'leave it out');
      }
    }
  }

  /** As given, or the default; null for a key without either. */
  value(key: string): Value {
    return this.values.get(key) ?? ofStep.get(key)?.fallback ?? fields.get(key)?.fallback ?? null;
  }

  number(key: string): number {
    return Number(this.value(key));
  }

  /** One of the words that the key takes. */
  word<T extends string>(key: string): T {
    return String(this.value(key)) as T;
  }

  /**
   * @param scale of what both must round to the same whole number
   * @throws SopError 64 where the file says something else of a size than its tensors
   */
  agree(key: string, size: number, scale = 1): void {
    const given = this.values.get(key);
    if (given === undefined || given === null || Math.round(Number(given) * scale) === Math.round(size * scale)) return;
    throw this.problem(key, `it is ${String(given)}, the tensors say ${size}`, 'make them agree');
  }

  problem(key: string, why: string, fix: string): SopError {
    return new SopError(ExitCode.usage, { what: 'setting cannot be used', where: `${this.where}, ${key}`, why, fix });
  }
}
