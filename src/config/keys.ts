import * as v from 'valibot';
import type { FieldNote } from './fields.js';
import { type Config, ConfigSchema } from './schema.js';

/** Dotted names of the keys, read off the schema so that nothing is declared twice. Browser-safe. */

/** What a leaf of the configuration may hold. */
export type Value = number | string | boolean | null | readonly number[];

/** A leaf of the schema. */
export interface Field extends FieldNote {
  readonly key: string;
  readonly schema: v.GenericSchema;
  /** The default; null where the value follows from other keys or from the data. */
  readonly fallback: Value;
}

function isSchema(candidate: unknown): candidate is v.GenericSchema {
  return typeof candidate === 'object' && candidate !== null && 'kind' in candidate && candidate.kind === 'schema';
}

/** The schema below `optional` and `nullish`; also below a pipe, which repeats the fields of its first schema. */
function unwrap(schema: v.GenericSchema): v.GenericSchema {
  return 'wrapped' in schema && isSchema(schema.wrapped) ? unwrap(schema.wrapped) : schema;
}

function entriesOf(schema: v.GenericSchema): readonly (readonly [string, v.GenericSchema])[] {
  const inner = unwrap(schema);
  if (!('entries' in inner) || typeof inner.entries !== 'object' || inner.entries === null) return [];
  return Object.entries(inner.entries).filter((entry): entry is [string, v.GenericSchema] => isSchema(entry[1]));
}

function collect(schema: v.GenericSchema, prefix: string, into: Map<string, Field>, sections: Set<string>): void {
  for (const [name, entry] of entriesOf(schema)) {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    if (entriesOf(entry).length > 0) {
      sections.add(key);
      collect(entry, key, into, sections);
    } else {
      const { help = '', expected = '' } = v.getMetadata(entry) as Partial<FieldNote>;
      const fallback = (v.getDefault(entry) ?? null) as Value;
      into.set(key, { key, schema: entry, help, expected, fallback });
    }
  }
}

const allSections = new Set<string>();
const allFields = new Map<string, Field>();
collect(ConfigSchema, '', allFields, allSections);

/** Every key, `model.arch` to `eval.k`, in the order of the schema. */
export const fields: ReadonlyMap<string, Field> = allFields;
/** Every prefix that holds keys: `model`, ..., `sop`, `sop.cls`, ... */
export const sections: ReadonlySet<string> = allSections;

const decimal = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

function typesOf(schema: v.GenericSchema): Set<string> {
  const inner = unwrap(schema);
  const options = 'options' in inner && Array.isArray(inner.options) ? inner.options.filter(isSchema) : [];
  if (inner.type !== 'union') return new Set([inner.type]);
  return new Set(options.flatMap((option) => [...typesOf(option)]));
}

/**
 * Reads the text of `--set key=value` or of a flag as the type of its key allows.
 * What cannot be read comes back as the text it is, and then fails the check of the key.
 *
 * @param key one of {@link fields}
 */
export function parseValue(key: string, text: string): unknown {
  const field = fields.get(key);
  const types = field === undefined ? new Set<string>() : typesOf(field.schema);
  const nullable = field !== undefined && 'wrapped' in field.schema && field.schema.type === 'nullish';
  const trimmed = text.trim();
  if (nullable && trimmed === 'null') return null;
  if (types.has('boolean')) return trimmed === 'true' ? true : trimmed === 'false' ? false : text;
  if (types.has('number') && decimal.test(trimmed)) return Number(trimmed);
  if (types.has('array')) {
    const parts = trimmed.replace(/^\[(.*)\]$/, '$1').split(',');
    if (parts.every((part) => decimal.test(part.trim()))) return parts.map(Number);
  }
  return types.has('string') ? text : trimmed;
}

/** Dotted keys as an object of objects. */
export function nestKeys(flat: ReadonlyMap<string, unknown>): Record<string, unknown> {
  const root: Record<string, unknown> = {};
  for (const [key, value] of flat) {
    const path = key.split('.');
    const leaf = path.pop()!;
    let at = root;
    for (const part of path) {
      at[part] ??= {};
      at = at[part] as Record<string, unknown>;
    }
    at[leaf] = value;
  }
  return root;
}

/** A value as `--set` takes it. */
export function formatValue(value: Value): string {
  return Array.isArray(value) ? `[${value.join(', ')}]` : String(value);
}

function walk(value: unknown, prefix: string, into: Map<string, Value>): void {
  for (const [name, entry] of Object.entries(value as Record<string, unknown>)) {
    const key = prefix === '' ? name : `${prefix}.${name}`;
    if (sections.has(key)) walk(entry, key, into);
    else into.set(key, entry as Value);
  }
}

/** A configuration as dotted keys and values, in the order of the schema. */
export function flattenConfig(config: Config): Map<string, Value> {
  const found = new Map<string, Value>();
  walk(config, '', found);
  return new Map([...fields.keys()].map((key) => [key, found.get(key) ?? null]));
}

/** A key on which two configurations differ. */
export interface ConfigDifference {
  readonly key: string;
  readonly before: Value;
  readonly after: Value;
}

/** The keys on which two configurations differ, in the order of the schema. */
export function diffConfig(before: Config, after: Config): readonly ConfigDifference[] {
  const old = flattenConfig(before);
  return [...flattenConfig(after)]
    .map(([key, value]) => ({ key, before: old.get(key) ?? null, after: value }))
    .filter((entry) => JSON.stringify(entry.before) !== JSON.stringify(entry.after));
}
