import { checkFinite, unusableWeights } from '../data/checkpoint.js';
import { printable, shortList } from '../data/dtype.js';
import { type NamedArray, toFloat32 } from '../data/safetensors.js';
import { perChannel, type Statistics } from '../data/statistics.js';
import { ExitCode, SopError } from '../errors.js';
import { sameShape, showShape } from '../graph/tensor.js';
import type { InitStd, ParameterSpec } from '../nn/parameters.js';
import { MASKED_EMBED, mlpRatioOf, type VitShape, vitSpecs } from '../nn/vit.js';
import type { NetworkShape } from '../sop/networks.js';
import type { Weights } from './encoder.js';
import { resamplePositions } from './positions.js';
import type { ImageFormat } from './preprocess.js';
import { type NetworkName, type TimmTensors, timmNames } from './weight-names.js';

/** What colour images are normalised with unless a file or a setting says otherwise. */
export const IMAGENET: Statistics = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Settings that win over what a file says of itself. */
export interface WeightOverrides {
  readonly heads?: number | undefined;
  readonly globalFeature?: NetworkShape['globalFeature'] | undefined;
  /** Side of the images, pixels; position embeddings are resampled where it is not the file's own. */
  readonly imageSize?: number | undefined;
  readonly mean?: readonly number[] | undefined;
  readonly std?: readonly number[] | undefined;
}

/** What the shapes and the metadata of a file say. */
export interface WeightFacts {
  /** `heads` is null where neither metadata nor width / 64 tell it. */
  readonly vit: Omit<VitShape, 'heads'> & { readonly heads: number | null };
  readonly globalFeature: NetworkShape['globalFeature'];
  /** Null for a grey encoder whose file does not say: then the training set's own. */
  readonly statistics: Statistics | null;
}

/** A backbone ready for `Encoder`. */
export interface LoadedWeights {
  readonly vit: VitShape;
  readonly globalFeature: NetworkShape['globalFeature'];
  /** By timm's name. */
  readonly weights: Weights;
  /** What its images are normalised with; null where the file does not say: then the training set's own. */
  readonly statistics: Statistics | null;
  /** Optimizer steps of the run that made it; null where the file does not say. */
  readonly step: number | null;
  /** What people should know: tensors that were ignored, positions that were resampled. */
  readonly notes: readonly string[];
}

/** A file under timm's names and what it says of itself. */
export interface WeightsFile {
  readonly where: string;
  readonly names: TimmTensors;
  readonly metadata: ReadonlyMap<string, string>;
  readonly facts: WeightFacts;
}

/**
 * Recognises a file of weights: timm's names, Hugging Face's, or a checkpoint of ours. Sizes follow from shapes.
 *
 * @throws SopError 65 for a file that is no ViT, naming file and tensor; 64 for the student of a file that is no checkpoint
 */
export function openWeights(
  tensors: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
  where: string,
  network?: NetworkName,
): WeightsFile {
  const names = timmNames(tensors, network);
  if (names.tensors.size === 0) {
    throw unusableWeights(
      where,
      names.network ? `it has no ${names.network}` : 'it holds no tensors',
      'give weights of a ViT',
    );
  }
  if (network === 'student' && names.network === null)
    throw unfit(
      '--network student',
      where,
      'it holds one network alone, not the student beside its teacher',
      'leave --network out',
    );
  return { where, names, metadata, facts: factsOf(names.tensors, metadata, where) };
}

function factsOf(
  tensors: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
  where: string,
): WeightFacts {
  const wanted = ['patch_embed.proj.weight', 'pos_embed', 'blocks.0.mlp.fc1.weight'];
  const missing = wanted.filter((name) => !tensors.has(name));
  if (missing.length > 0)
    throw unusableWeights(where, `missing: ${missing.join(', ')}`, 'give weights of a ViT, names as in timm');
  const shape = (name: string): readonly number[] => tensors.get(name)?.shape ?? [];
  const misfit = (name: string, expected: string): SopError =>
    unusableWeights(
      where,
      `${name} is ${showShape(shape(name))}, expected ${expected}`,
      'give a plain ViT with square patches',
    );
  const [width = 0, channels = 0, patch = 0, across = 0] = shape('patch_embed.proj.weight');
  if (shape('patch_embed.proj.weight').length !== 4 || patch !== across || width < 1 || patch < 1)
    throw misfit('patch_embed.proj.weight', '[width, channels, patch, patch]');
  if (channels !== 1 && channels !== 3) throw misfit('patch_embed.proj.weight', '1 or 3 channels');
  const [, rows = 0] = shape('pos_embed');
  const side = Math.round(Math.sqrt(Math.max(0, rows - 1)));
  if (!sameShape(shape('pos_embed'), [1, 1 + side * side, width]) || side < 1)
    throw misfit('pos_embed', `[1, 1 + n * n, ${width}]: one [CLS] and a square grid`);
  const [hidden = 0] = shape('blocks.0.mlp.fc1.weight');
  const blocks = new Set([...tensors.keys()].flatMap((name) => /^blocks\.(\d+)\./.exec(name)?.[1] ?? []));
  const heads = number(metadata, 'model.heads') ?? (width % 64 === 0 ? width / 64 : null);
  const initStd: InitStd =
    metadata.get('model.init_std') === 'fan-in' ? 'fan-in' : (number(metadata, 'model.init_std') ?? 0.02);
  const sizes = {
    width,
    depth: blocks.size,
    heads,
    mlpRatio: mlpRatioOf(hidden, width),
    patch,
    channels,
    imageSize: side * patch,
  };
  const stored = { mean: numbers(metadata, 'data.mean'), std: numbers(metadata, 'data.std') };
  return {
    vit: { ...sizes, initStd },
    globalFeature: metadata.get('model.global_feature') === 'avg-patch' ? 'avg-patch' : 'cls',
    statistics: stored.mean && stored.std ? { mean: stored.mean, std: stored.std } : channels === 3 ? IMAGENET : null,
  };
}

/**
 * The backbone of a file.
 *
 * @throws SopError 65 listing all tensors that are missing, mis-shaped or of a part that no plain ViT has, or naming one that
 * holds NaN or infinity; 64 for settings that do not fit the file
 */
export function readWeights(
  { where, names, metadata, facts }: WeightsFile,
  overrides: WeightOverrides = {},
): LoadedWeights {
  const heads = overrides.heads ?? facts.vit.heads;
  const { width, patch } = facts.vit;
  if (heads === null || !Number.isInteger(heads) || heads < 1 || width % heads !== 0) {
    const why =
      heads === null
        ? `width ${width} is no multiple of 64, so they cannot be told`
        : `${heads} do not divide width ${width}`;
    throw unfit('model.heads', where, why, 'give --set model.heads=N');
  }
  const native: VitShape = { ...facts.vit, heads };
  const weights = collect(vitSpecs(native), names.tensors, where);
  const notes = ignoredNotes(vitSpecs(native), names.tensors);
  const vit = { ...native, imageSize: overrides.imageSize ?? native.imageSize };
  if (vit.imageSize % patch !== 0)
    throw unfit(
      'model.image_size',
      where,
      `patches of ${patch} do not divide ${vit.imageSize}`,
      `give a multiple of ${patch}`,
    );
  if (vit.imageSize !== native.imageSize) {
    const [from, to] = [native.imageSize / patch, vit.imageSize / patch];
    weights.set('pos_embed', resamplePositions(weights.get('pos_embed') ?? new Float32Array(), width, from, to));
    notes.push(`position embeddings resampled from ${from} x ${from} to ${to} x ${to} patches`);
  }
  const mean = overrides.mean ?? facts.statistics?.mean;
  const std = overrides.std ?? facts.statistics?.std;
  return {
    vit,
    globalFeature: overrides.globalFeature ?? facts.globalFeature,
    weights,
    statistics: mean && std ? { mean: perChannel(mean, vit.channels), std: perChannel(std, vit.channels) } : null,
    step: number(metadata, 'step'),
    notes,
  };
}

/** Tensors of `specs`, widened to f32. */
function collect(
  specs: readonly ParameterSpec[],
  tensors: ReadonlyMap<string, NamedArray>,
  where: string,
): Map<string, Float32Array> {
  const complaints = weightComplaints(specs, tensors);
  const foreign = [...tensors.keys()].filter((name) => isForeignPart(name, specs));
  if (foreign.length > 0) complaints.push(`parts that a plain ViT does not have: ${shortList(foreign.map(printable))}`);
  if (complaints.length > 0)
    throw unusableWeights(where, complaints.join('; '), 'give weights of a plain ViT, names as in timm');
  return new Map(specs.map(({ name }) => [name, weightValues(tensors.get(name)!, where)]));
}

/** Weights of a file, widened to f32. @throws SopError (65) for NaN or infinity: no number that is made of them means anything */
export function weightValues(tensor: NamedArray, where: string): Float32Array {
  const values = toFloat32(tensor);
  checkFinite(tensor.name, values, where, 'get or write the file again');
  return values;
}

/** What keeps `tensors` from being those of `specs`, in words; empty where all fit. */
export function weightComplaints(
  specs: readonly ParameterSpec[],
  tensors: ReadonlyMap<string, NamedArray>,
  optional: (name: string) => boolean = () => false,
): string[] {
  const missing = specs.filter(({ name }) => !tensors.has(name) && !optional(name)).map(({ name }) => name);
  const misfits = specs.flatMap(({ name, shape }) => {
    const tensor = tensors.get(name);
    if (!tensor) return [];
    if (!sameShape(tensor.shape, shape)) return `${name} ${showShape(tensor.shape)}, expected ${showShape(shape)}`;
    return ['F32', 'F16', 'BF16', 'F64'].includes(tensor.dtype) ? [] : `${name} of type ${tensor.dtype}`;
  });
  return [
    ...(missing.length > 0 ? [`missing: ${shortList(missing)}`] : []),
    ...(misfits.length > 0 ? [`do not fit: ${shortList(misfits)}`] : []),
  ];
}

/** Tensors that change what an encoder computes (layer scale, register tokens, ...): ignoring them would give wrong features. */
function isForeignPart(name: string, specs: readonly ParameterSpec[]): boolean {
  if (!/^(blocks\.|patch_embed\.|norm_pre\.|norm\.|reg_token|dist_token)/.test(name)) return false;
  return !specs.some((spec) => spec.name === name);
}

function ignoredNotes(specs: readonly ParameterSpec[], tensors: ReadonlyMap<string, NamedArray>): string[] {
  const known = new Set([...specs.map(({ name }) => name), MASKED_EMBED]);
  // Our own projection head is no part of a backbone, and nobody wonders where it is.
  const ignored = [...tensors.keys()].filter((name) => !known.has(name) && !name.startsWith('head.mlp.'));
  return ignored.length > 0 ? [`ignored, no part of the encoder: ${shortList(ignored.map(printable))}`] : [];
}

/** What `preprocess` needs. `own`: statistics of the training set, for a grey encoder whose file has none. */
export function imageFormat(
  { vit, statistics }: Pick<LoadedWeights, 'vit' | 'statistics'>,
  own: Statistics,
): ImageFormat {
  const { mean, std } = statistics ?? own;
  return {
    channels: vit.channels,
    size: vit.imageSize,
    mean: perChannel(mean, vit.channels),
    std: perChannel(std, vit.channels),
  };
}

/** A number of the metadata, or null. */
function number(metadata: ReadonlyMap<string, string>, key: string): number | null {
  const [value] = numbers(metadata, key) ?? [];
  return value ?? null;
}

/** `1, 2` or `[1, 2]`; null where there is no such key or something else. */
function numbers(metadata: ReadonlyMap<string, string>, key: string): number[] | null {
  const parts =
    metadata
      .get(key)
      ?.trim()
      .replace(/^\[(.*)\]$/, '$1')
      .split(',') ?? [];
  const values = parts.map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  return values.length > 0 && values.every(Number.isFinite) ? values : null;
}

function unfit(key: string, where: string, why: string, fix: string): SopError {
  return new SopError(ExitCode.usage, {
    what: 'setting does not fit the weights',
    where: `${where}, ${key}`,
    why,
    fix,
  });
}
