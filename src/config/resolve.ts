import * as v from 'valibot';
import { ExitCode, SopError } from '../errors.js';
import { contradictions } from './checks.js';
import { fields, formatValue, nestKeys, parseValue, sections } from './keys.js';
import type { Layer, Setting } from './layer.js';
import { nearestName } from './nearest.js';
import { architectures, type Config, ConfigSchema, lengthKeys, sizeKeys, warmupKeys } from './schema.js';

/** Layers of settings (preset, then file, then command line) become one checked configuration. Browser-safe. */

/** Keys of which one alone may be set: a later layer's replaces an earlier layer's. */
const exclusive: readonly (readonly string[])[] = [lengthKeys, warmupKeys];

interface Origin {
  readonly where: string;
  readonly exitCode: ExitCode;
}

const exitCodeOf = (layer: Layer) => (layer.origin === 'file' ? ExitCode.config : ExitCode.usage);

function unknownKey(key: string, { where }: Setting, layer: Layer): SopError {
  const nearest = nearestName(key, fields.keys());
  const inside = [...fields.keys()].filter((name) => name.startsWith(`${key}.`));
  const why = sections.has(key) ? `it is a section, of the keys ${inside.join(', ')}` : 'there is no such key';
  const fix = nearest === undefined || sections.has(key) ? 'see sop-gpu train --help' : `did you mean ${nearest}?`;
  return new SopError(exitCodeOf(layer), { what: `unknown key ${key}`, where, why, fix });
}

/**
 * A later layer's architecture replaces the sizes given before it; a later layer's size turns an architecture that was
 * named before it into a custom one. Within one layer both may stand only where they agree (the schema checks that).
 */
function mergeArchitecture(layer: Layer, merged: Map<string, Setting>): void {
  const sizes = sizeKeys.map((size) => `model.${size}`);
  if (layer.settings.has('model.arch')) {
    for (const key of sizes) merged.delete(key);
    return;
  }
  const given = sizes.find((key) => layer.settings.has(key));
  if (given === undefined) return;
  const arch = merged.get('model.arch')?.value ?? 'small';
  const named = Object.entries(architectures).find(([name]) => name === arch)?.[1];
  if (named === undefined) return;
  const { where } = layer.settings.get(given)!;
  merged.set('model.arch', { value: 'custom', where });
  for (const size of sizeKeys) {
    // 64 features a head, as all named ones have, follow a new width by themselves.
    if (size === 'heads' && layer.settings.has('model.width')) continue;
    if (!merged.has(`model.${size}`)) merged.set(`model.${size}`, { value: named[size], where });
  }
}

function mergeExclusive(layer: Layer, merged: Map<string, Setting>): void {
  for (const group of exclusive) {
    const given = group.filter((key) => (layer.settings.get(key)?.value ?? null) !== null);
    if (given.length > 1) {
      const last = layer.settings.get(given.at(-1)!)!;
      const what = `${given.join(' and ')} are given together`;
      const why = 'each of them says the same thing in another unit';
      throw new SopError(exitCodeOf(layer), { what, where: last.where, why, fix: 'give one of them' });
    }
    if (given.length === 1) for (const key of group) merged.delete(key);
  }
}

function got(value: unknown): string {
  if (value === undefined || value === null || value === '') return 'nothing';
  const text = typeof value === 'number' ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/**
 * Makes one configuration of layers, the later ones winning.
 *
 * @throws SopError naming key, place, expected and got: 64 for what the command line gave, 78 for what a file gave
 */
export function resolveConfig(layers: readonly Layer[]): Config {
  const merged = new Map<string, Setting>();
  const exitCodes = new Map<Setting, ExitCode>();
  for (const layer of layers) {
    for (const [key, setting] of layer.settings) {
      if (!fields.has(key)) throw unknownKey(key, setting, layer);
      exitCodes.set(setting, exitCodeOf(layer));
    }
    mergeArchitecture(layer, merged);
    mergeExclusive(layer, merged);
    for (const [key, setting] of layer.settings) merged.set(key, setting);
  }
  const originOf = (keys: readonly string[]): Origin => {
    const given = keys.map((key) => merged.get(key)).filter((setting) => setting !== undefined);
    const flag = given.find((setting) => exitCodes.get(setting) === ExitCode.usage);
    const setting = flag ?? given[0];
    return {
      where: setting?.where ?? 'defaults',
      exitCode: (setting && exitCodes.get(setting)) ?? ExitCode.config,
    };
  };

  const result = v.safeParse(ConfigSchema, nestKeys(new Map([...merged].map(([key, { value }]) => [key, value]))));
  if (!result.success) {
    const issue = result.issues[0];
    const key = v.getDotPath(issue)?.replace(/\.\d+$/, '') ?? '';
    const { where, exitCode } = originOf([key, 'model.arch']);
    const value = merged.get(key)?.value;
    const why = `expected ${issue.message}, got ${got(value)}`;
    const fallback = fields.get(key)?.fallback ?? null;
    const optional = `correct it or leave it out${fallback === null ? '' : ` (default ${formatValue(fallback)})`}`;
    const fix = value === undefined ? `set ${key}` : optional;
    throw new SopError(exitCode, { what: `bad value for ${key}`, where, why, fix });
  }
  const broken = contradictions(result.output)[0];
  if (broken !== undefined) {
    const { where, exitCode } = originOf(broken.keys);
    const { why, fix } = broken;
    throw new SopError(exitCode, { what: `bad value for ${broken.keys[0]}`, where, why, fix });
  }
  return result.output;
}

/** A flag's text for a key: `['train.batch_size', '64', '--batch-size']`. */
export type FlagSetting = readonly [key: string, text: string, flag: string];

/**
 * The layer of the command line.
 *
 * @param pairs values of `--set`, `key=value` each
 * @param flags what flags of their own set
 * @throws SopError (64) for a pair without `=`, a key given twice, an empty value
 */
export function commandLineLayer(pairs: readonly string[], flags: readonly FlagSetting[] = []): Layer {
  const settings = new Map<string, Setting>();
  const problem = (where: string, what: string, why: string, fix: string) =>
    new SopError(ExitCode.usage, { what, where, why, fix });
  const add = (key: string, text: string, where: string) => {
    if (settings.has(key)) throw problem(where, `${key} is given twice`, 'one value is wanted', 'keep one of them');
    if (text.trim() === '') {
      const expected = fields.get(key)?.expected ?? 'a value';
      throw problem(where, `no value for ${key}`, `expected ${expected}, got nothing`, `write --set ${key}=VALUE`);
    }
    settings.set(key, { value: parseValue(key, text), where });
  };
  for (const pair of pairs) {
    const at = pair.indexOf('=');
    if (at < 1)
      throw problem('--set', 'bad setting', `expected key=value, got ${got(pair)}`, 'write --set model.depth=4');
    add(pair.slice(0, at).trim(), pair.slice(at + 1), '--set');
  }
  for (const [key, text, flag] of flags) add(key, text, flag);
  return { name: 'command line', origin: 'command line', settings };
}
