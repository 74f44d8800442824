import { flattenConfig, sections } from '../config/keys.js';
import type { Setting } from '../config/layer.js';
import { resolveConfig } from '../config/resolve.js';
import type { Config } from '../config/schema.js';

/** Settings of a run: dotted keys (`'model.width': 64`), objects (`model: { width: 64 }`), or both. */
export interface Settings {
  readonly [key: string]: unknown;
}

/**
 * The whole configuration: defaults (the paper's main setting) and these settings over each other, the later ones winning,
 * as presets, files and flags do on the command line.
 *
 * @throws SopError 78 naming the key that is unknown, of a wrong type or range, or contradicts another
 */
export function configOf(...layers: readonly Settings[]): Config {
  return resolveConfig(
    layers.map((layer) => ({ name: 'settings', origin: 'file' as const, settings: flat(layer, '', new Map()) })),
  );
}

/** Every key of a resolved configuration as settings, so that it can be kept as JSON and resolved again. */
export function settingsOf(config: Config): Settings {
  return Object.fromEntries(flattenConfig(config));
}

function flat(settings: Settings, prefix: string, into: Map<string, Setting>): Map<string, Setting> {
  for (const [name, value] of Object.entries(settings)) {
    const key = prefix + name;
    if (sections.has(key) && typeof value === 'object' && value !== null) flat(value as Settings, `${key}.`, into);
    else into.set(key, { value, where: 'settings' });
  }
  return into;
}
