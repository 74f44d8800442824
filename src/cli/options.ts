import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fields, formatValue } from '../config/keys.js';
import type { Layer } from '../config/layer.js';
import { nearestName } from '../config/nearest.js';
import { commandLineLayer, type FlagSetting, resolveConfig } from '../config/resolve.js';
import type { Config } from '../config/schema.js';
import { yamlLayer } from '../config/yaml.js';
import { cannotRead } from '../data/node/io-errors.js';
import { ExitCode, SopError } from '../errors.js';
import { type FlagValues, flagName, repeatedFlag, switchFlag, textFlag } from './flags.js';
import { table } from './table.js';

/** Flags that every command has. */
export const commonFlags = {
  adapter: textFlag('--adapter <name>', 'part of the name of the adapter to use (also SOP_GPU_ADAPTER)'),
  json: textFlag('--json <file>', 'also write the result as JSON', 'written'),
  quiet: switchFlag('--quiet', 'print nothing but warnings and errors'),
  debug: switchFlag('--debug', 'print the stack of an error'),
};
export type CommonOptions = FlagValues<typeof commonFlags>;

/** What to do about images that cannot be decoded. */
export const badImageFlag = textFlag('--on-bad-image <error or skip>', 'an unreadable image ends it, or is left out');

/** Flags of commands that take a configuration but are given weights (`eval knn`, `embed`, `export`). */
export const settingFlags = {
  config: textFlag('--config <file.yaml>', 'configuration file', 'read'),
  set: repeatedFlag('--set <key=value>', 'one key of the configuration; may be repeated'),
};

/** Flags that are short names of keys, as `commandLineLayer` takes them. */
const keyOf = {
  data: 'data.path',
  epochs: 'train.epochs',
  steps: 'train.steps',
  minutes: 'train.minutes',
  batchSize: 'train.batch_size',
  seed: 'train.seed',
  precision: 'train.precision',
  onBadImage: 'data.on_bad_image',
  onNonfinite: 'train.on_nonfinite',
} as const;

/** Flags that decide what is computed in a step (`tune`). */
export const stepFlags = {
  preset: textFlag('--preset <name>', 'settings to start from'),
  ...settingFlags,
  batchSize: textFlag('--batch-size <images>', 'images in a batch'),
  precision: textFlag('--precision <f32 or f16>', 'type of activations; f16 where the adapter has shader-f16'),
};

/** Flags of commands that configure a whole training run (`train`, `plan`). */
export const trainingFlags = {
  data: textFlag('--data <path or name>', 'training set: folder of images, IDX or CIFAR files, or fashion-mnist'),
  ...stepFlags,
  epochs: textFlag('--epochs <n>', 'length of the run in epochs'),
  steps: textFlag('--steps <n>', 'length of the run in steps'),
  minutes: textFlag('--minutes <n>', 'length of the run in minutes; the schedules span it'),
  seed: textFlag('--seed <n>', 'seed of everything that is drawn'),
  onBadImage: badImageFlag,
  onNonfinite: textFlag(
    '--on-nonfinite <error or skip:n>',
    'a step that is not finite ends the run, or n in a row are skipped',
  ),
  stopOnCollapse: switchFlag('--stop-on-collapse', 'end the run where its features collapse'),
};

type Given<F extends Record<string, unknown>> = { readonly [K in keyof F]?: F[K] | undefined };
/** What a configuration is made of; all of it may be left out. */
export type ConfigOptions = Given<FlagValues<typeof trainingFlags>>;

/** The folder `presets/` of this package, from the sources as well as from what is compiled. */
async function presetFolder(): Promise<{ readonly folder: string; readonly names: readonly string[] }> {
  let above = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const folder = join(above, 'presets');
    const entries = await readdir(folder).catch(() => []);
    const names = entries.filter((name) => name.endsWith('.yaml')).map((name) => name.slice(0, -'.yaml'.length));
    if (names.length > 0) return { folder, names: names.sort() };
    if (dirname(above) === above) break;
    above = dirname(above);
  }
  const fix = 'install sop-gpu again';
  throw new SopError(ExitCode.internal, { what: 'no presets', where: 'presets/', why: 'the folder is missing', fix });
}

/** Names of the presets that this package brings. */
export async function presetNames(): Promise<readonly string[]> {
  return (await presetFolder()).names;
}

async function readConfigFile(path: string, name?: string): Promise<Layer> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw cannotRead(path, error);
  });
  return yamlLayer(text, path, name);
}

/** @throws SopError (64) for a name that is no preset, naming the nearest */
async function presetLayer(name: string): Promise<Layer> {
  const { folder, names } = await presetFolder();
  if (names.includes(name)) return readConfigFile(join(folder, `${name}.yaml`), `preset ${name}`);
  const nearest = nearestName(name, names);
  const fix = nearest === undefined ? 'name one of these, or give a file with --config' : `did you mean ${nearest}?`;
  const why = `there are: ${names.join(', ')}`;
  throw new SopError(ExitCode.usage, { what: `unknown preset ${name}`, where: '--preset', why, fix });
}

/**
 * The layers that flags ask for: preset, then file, then `--set` and short flags.
 *
 * @throws SopError 64 command line, 66 a file that is missing, 78 a file that is wrong
 */
export async function configLayers(options: ConfigOptions): Promise<Layer[]> {
  const layers: Layer[] = [];
  if (options.preset !== undefined) layers.push(await presetLayer(options.preset));
  if (options.config !== undefined) layers.push(await readConfigFile(options.config));
  const flags = Object.entries(keyOf).flatMap(([name, key]): FlagSetting[] => {
    const text = options[name as keyof typeof keyOf];
    return text === undefined ? [] : [[key, text, flagName(trainingFlags[name as keyof typeof keyOf].syntax)]];
  });
  if (options.stopOnCollapse) flags.push(['train.stop_on_collapse', 'true', '--stop-on-collapse']);
  layers.push(commandLineLayer(options.set ?? [], flags));
  return layers;
}

/**
 * What flags, `--set` and `--config` say of some keys, for commands that need nothing else of these: the other keys are those
 * of weights, and checked with them.
 */
export async function configOfKeys(options: ConfigOptions, keys: readonly string[]): Promise<Config> {
  const layers = (await configLayers(options)).map((layer) => {
    const settings = new Map([...layer.settings].filter(([key]) => keys.includes(key)));
    return { ...layer, settings };
  });
  return resolveConfig(layers);
}

/** The configuration that flags ask for, over `base` (a preset the command itself starts from). @throws as above */
export async function configFrom(options: ConfigOptions, base: readonly Layer[] = []): Promise<Config> {
  return resolveConfig([...base, ...(await configLayers(options))]);
}

/** The part of `train --help` that lists the keys of `--set` and of configuration files. */
export async function keysHelp(): Promise<string> {
  const rows = [...fields.values()].map(({ key, fallback, help }) => [
    key,
    fallback === null ? '' : formatValue(fallback),
    help,
  ]);
  const lines = table(['key', 'default', 'what'], rows);
  return `\nPresets: ${(await presetNames()).join(', ')}\n\nKeys of --set and --config:\n${lines.join('\n')}\n`;
}
