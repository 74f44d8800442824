import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Layer } from '../config/layer.js';
import { resolveConfig } from '../config/resolve.js';
import type { Config } from '../config/schema.js';
import { unusableWeights } from '../data/checkpoint.js';
import { readSafetensorsFile, readSafetensorsHeader } from '../data/node/files.js';
import { cannotRead, errorCode } from '../data/node/io-errors.js';
import { ExitCode, SopError } from '../errors.js';
import type { NetworkName } from '../eval/weight-names.js';
import {
  type LoadedWeights,
  openWeights,
  readWeights,
  type WeightOverrides,
  type WeightsFile,
} from '../eval/weights.js';
import { NORM_EPS } from '../nn/layers.js';
import { configLayers } from './options.js';
import type { Printer } from './printer.js';
import { runFolder } from './run-folder.js';

export interface WeightsOptions {
  readonly run?: string | undefined;
  readonly weights?: string | undefined;
  readonly config?: string | undefined;
  readonly set?: readonly string[] | undefined;
}

export interface SourceWeights extends LoadedWeights {
  /** The file they come from. */
  readonly where: string;
  /** The settings of file and command line together: `train.seed` and the like. */
  readonly config: Config;
}

/**
 * Reads the weights that `--run` or `--weights` name, under the settings of `--config` and `--set`; prints notes.
 *
 * @throws SopError 64 neither or both flags, settings that do not fit; 65 malformed; 66 missing
 */
export async function weightsFrom(
  options: WeightsOptions,
  printer: Printer,
  network?: NetworkName,
): Promise<SourceWeights> {
  const path = await weightsPath(options, network);
  const { tensors, metadata } = await readTensors(path, network);
  const file = openWeights(tensors, metadata, path.file, network);
  const { config, overrides } = await settings(file, options);
  const loaded = readWeights(file, overrides);
  for (const note of loaded.notes) printer.line(`${path.file}: ${note}`);
  return { ...loaded, where: path.file, config };
}

/** A file of weights, and the folder of Hugging Face it lies in. */
interface Location {
  readonly file: string;
  readonly folder: string | null;
}

async function weightsPath({ run, weights }: WeightsOptions, network: NetworkName | undefined): Promise<Location> {
  if ((run === undefined) === (weights === undefined)) {
    throw new SopError(ExitCode.usage, {
      what: run === undefined ? 'no weights' : '--run and --weights are given together',
      where: '--run, --weights',
      why: 'one of them says whose features are wanted',
      fix: 'give --run <folder of a run> or --weights <file>',
    });
  }
  if (run !== undefined) return { file: await inRun(run, network), folder: null };
  const path = weights as string;
  const info = await stat(path).catch((error: unknown) => {
    throw cannotRead(path, error);
  });
  if (!info.isDirectory()) return { file: path, folder: null };
  const file = join(path, 'model.safetensors');
  await stat(file).catch((error: unknown) => {
    throw cannotRead(file, error, 'give a file, a folder of Hugging Face, or that of a run by --run');
  });
  return { file, folder: path };
}

/** The teacher that a finished run exported, else the best checkpoint, else the last one. */
async function inRun(folder: string, network: NetworkName | undefined): Promise<string> {
  const run = runFolder(folder);
  const exported = network === 'student' ? [] : [run.exported];
  for (const file of [...exported, run.bestCheckpoint, run.lastCheckpoint]) {
    try {
      await readSafetensorsHeader(file);
      return file;
    } catch (error) {
      if (!(error instanceof SopError) || errorCode(error.cause) !== 'ENOENT') throw error;
    }
  }
  await stat(folder).catch((error: unknown) => {
    throw cannotRead(folder, error, 'give the folder of a run');
  });
  throw new SopError(ExitCode.noInput, {
    what: 'no weights in this run',
    where: folder,
    why: 'it holds neither an exported teacher nor a checkpoint',
    fix: 'give the folder that train --out named, once a checkpoint is written',
  });
}

/** Tensors of the wanted network alone: moments and memories of a checkpoint are not read. */
async function readTensors({ file, folder }: Location, network: NetworkName | undefined) {
  const prefixes = network ? [`${network}.`] : ['teacher.', 'student.'];
  const ours = /^(teacher|student|moment[12]|memory)\./;
  const read = await readSafetensorsFile(
    file,
    ({ name }) => !ours.test(name) || prefixes.some((prefix) => name.startsWith(prefix)),
  );
  if (!folder) return read;
  return { tensors: read.tensors, metadata: new Map([...(await besideIt(folder)), ...read.metadata]) };
}

/** What `config.json` and `preprocessor_config.json` of Hugging Face say that shapes do not, as our metadata says it. */
async function besideIt(folder: string): Promise<Map<string, string>> {
  const metadata = new Map<string, string>();
  const config = await readJson(join(folder, 'config.json'));
  const processor = await readJson(join(folder, 'preprocessor_config.json'));
  const put = (key: string, value: unknown): void => {
    if (value !== undefined) metadata.set(key, String(value));
  };
  put('model.heads', config['num_attention_heads']);
  put('data.mean', processor['image_mean']);
  put('data.std', processor['image_std']);
  const epsilon = config['layer_norm_eps'];
  const activation = config['hidden_act'];
  const unlike = (what: string, got: unknown, ours: unknown): SopError =>
    unusableWeights(
      join(folder, 'config.json'),
      `${what} is ${String(got)}, this encoder computes with ${String(ours)}`,
      'give weights of a ViT as in timm',
    );
  // Below 1e-5 it only matters where a token is nearly constant: the difference is far below f32's rounding.
  if (typeof epsilon === 'number' && epsilon > 10 * NORM_EPS) throw unlike('layer_norm_eps', epsilon, NORM_EPS);
  if (activation !== undefined && activation !== 'gelu') throw unlike('hidden_act', activation, 'gelu');
  return metadata;
}

/** A file of JSON; an empty object where there is none. */
async function readJson(path: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return '{}';
    throw cannotRead(path, error);
  });
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {} // said below
  throw new SopError(ExitCode.data, {
    what: 'malformed JSON',
    where: path,
    why: 'it is no object',
    fix: 'repair it, or give model.safetensors itself',
  });
}

/** Sizes that the file fixes: a setting may repeat them. */
const fixedKeys = ['model.width', 'model.depth', 'model.mlp_ratio', 'model.patch_size'] as const;

/** The file's own settings below those of the command line: the same checks and messages as for `train`. */
async function settings(
  { where, facts }: WeightsFile,
  options: WeightsOptions,
): Promise<{ readonly config: Config; readonly overrides: WeightOverrides }> {
  const { vit } = facts;
  const own = new Map<string, unknown>([
    ['model.arch', 'custom'],
    ['model.width', vit.width],
    ['model.depth', vit.depth],
    ['model.heads', vit.heads ?? 1],
    ['model.mlp_ratio', vit.mlpRatio],
    ['model.patch_size', vit.patch],
    ['model.image_size', vit.imageSize],
    ['model.init_std', vit.initStd],
    ['model.global_feature', facts.globalFeature],
    // Settings of training that a small encoder would contradict.
    ['views.local_count', 0],
    ['loss.patch_weight', 0],
  ]);
  const base: Layer = {
    name: where,
    origin: 'file',
    settings: new Map([...own].map(([key, value]) => [key, { value, where }])),
  };
  const layers = await configLayers({ config: options.config, set: options.set });
  const config = resolveConfig([base, ...layers]);
  const { model, data } = config;
  const got = {
    'model.width': model.width,
    'model.depth': model.depth,
    'model.mlp_ratio': model.mlp_ratio,
    'model.patch_size': model.patch_size,
  };
  // A ratio may be any that rounds to the file's hidden width, as for `train`.
  const size = (key: (typeof fixedKeys)[number], value: number): number =>
    key === 'model.mlp_ratio' ? Math.round(vit.width * value) : value;
  for (const key of fixedKeys) {
    if (size(key, got[key]) === size(key, Number(own.get(key)))) continue;
    const given = layers.findLast((layer) => layer.settings.has(key) || layer.settings.has('model.arch'));
    const what = 'setting does not fit the weights';
    const why = `${where} has ${String(own.get(key))}, ${given?.name ?? 'settings'} ${got[key]}`;
    const code = given?.origin === 'file' ? ExitCode.config : ExitCode.usage;
    throw new SopError(code, { what, where: key, why, fix: `leave ${key} out` });
  }
  const given = new Set(layers.flatMap((layer) => [...layer.settings.keys()]));
  const when = <T>(key: string, value: T): T | undefined => (given.has(key) ? value : undefined);
  const overrides = {
    heads: given.has('model.arch') ? model.heads : when('model.heads', model.heads),
    globalFeature: when('model.global_feature', model.global_feature),
    imageSize: when('model.image_size', model.image_size),
    mean: data.mean ?? undefined,
    std: data.std ?? undefined,
  };
  return { config, overrides };
}
