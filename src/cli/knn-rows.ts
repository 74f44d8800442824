import type { ImageSet } from '../data/dataset.js';
import { channelStatistics, type Statistics } from '../data/statistics.js';
import { Encoder, type Weights } from '../eval/encoder.js';
import { encoderBatch, setFeatures, setPixels } from '../eval/features.js';
import type { ComparedRows } from '../eval/knn.js';
import type { ImageFormat } from '../eval/preprocess.js';
import { normalizeRows } from '../eval/similarity.js';
import { IMAGENET, imageFormat, type LoadedWeights } from '../eval/weights.js';
import type { Gpu } from '../gpu/device.js';
import type { VitShape } from '../nn/vit.js';
import { initialWeights } from '../sop/initialize.js';
import type { NetworkShape } from '../sop/networks.js';
import { networkShape } from '../sop/setup.js';
import { configFrom } from './options.js';
import type { Printer } from './printer.js';
import { CountProgress, formatRate } from './progress.js';
import { readRunConfig, runFolder } from './run-folder.js';
import { type WeightsOptions, weightsFrom } from './weights-source.js';

/** The images of a k-NN evaluation. */
export interface Sets {
  readonly gallery: ImageSet;
  /** Null: each gallery image against all others. */
  readonly queries: ImageSet | null;
}

/** Which features are compared. */
export interface FeatureOptions extends WeightsOptions {
  readonly untrained: boolean;
}

/** Rows to compare, and what they are. */
export interface Rows extends ComparedRows {
  readonly what: string;
  readonly imagesPerSecond: number;
}

/** What is needed to make an encoder. */
interface Model {
  readonly vit: VitShape;
  readonly globalFeature: NetworkShape['globalFeature'];
  readonly weights: Weights;
  readonly format: ImageFormat;
  readonly what: string;
}

/** Features of both sets. */
export async function featureRows(options: FeatureOptions, sets: Sets, gpu: Gpu, printer: Printer): Promise<Rows> {
  const model = await (options.untrained
    ? untrainedModel(options, sets.gallery, printer)
    : trainedModel(options, sets.gallery, printer));
  const total = sets.gallery.count + (sets.queries?.count ?? 0);
  const encoder = await Encoder.create(gpu, model, encoderBatch(model.vit, gpu.target, total));
  const started = performance.now();
  const progress = new CountProgress('images', printer);
  const rate = (done: number): number => (1000 * done) / (performance.now() - started);
  try {
    encoder.load(model.weights);
    const rows = async (set: ImageSet, before: number): Promise<Float32Array> => {
      const features = await setFeatures(encoder, set, model.format, (done) => progress.update(before + done, total));
      return normalizeRows(features, encoder.width);
    };
    const gallery = await rows(sets.gallery, 0);
    const queries = sets.queries && (await rows(sets.queries, sets.gallery.count));
    const imagesPerSecond = rate(total);
    const what = `${model.what}, ${formatRate(imagesPerSecond)} images/s`;
    return { gallery, queries, width: encoder.width, what, imagesPerSecond };
  } finally {
    progress.stop();
    encoder.destroy();
  }
}

async function trainedModel(options: FeatureOptions, gallery: ImageSet, printer: Printer): Promise<Model> {
  const loaded = await weightsFrom(options, printer);
  return { ...loaded, format: await formatFor(loaded, gallery), what: describe(loaded.where, loaded) };
}

function describe(where: string, { vit, globalFeature }: Pick<LoadedWeights, 'vit' | 'globalFeature'>): string {
  const feature = globalFeature === 'cls' ? '[CLS]' : 'mean of the patches';
  return `${feature} of ${where} (width ${vit.width}, depth ${vit.depth}, heads ${vit.heads}, patch ${vit.patch}, ${vit.imageSize} pixels)`;
}

/** The format of an encoder's images; where its file does not say how they are normalised, as the training set `own` is. */
export async function formatFor(
  loaded: Pick<LoadedWeights, 'vit' | 'statistics'>,
  own: ImageSet,
): Promise<ImageFormat> {
  return imageFormat(loaded, loaded.statistics ?? (own.channels === 1 ? await channelStatistics(own) : IMAGENET));
}

/** The architecture of run, file or settings with the weights that training would begin with. */
async function untrainedModel(options: FeatureOptions, gallery: ImageSet, printer: Printer): Promise<Model> {
  const head = { hidden: 1, layers: 1, out: 1 };
  if (options.weights !== undefined) {
    const loaded = await weightsFrom(options, printer);
    const { seed } = loaded.config.train;
    const vit = { ...loaded.vit, initStd: loaded.config.model.init_std };
    const format = await formatFor(loaded, gallery);
    const weights = initialWeights({ vit, head, globalFeature: loaded.globalFeature }, seed);
    return { ...loaded, vit, weights, format, what: `untrained (seed ${seed}): ${describe(loaded.where, loaded)}` };
  }
  const config = options.run === undefined ? await configFrom(options) : await readRunConfig(runFolder(options.run));
  const { mean, std } = config.data;
  // A run stores its statistics: as many numbers as its images have channels.
  const channels = mean?.length === 1 ? 1 : mean ? 3 : gallery.channels;
  const shape = { ...networkShape(config, channels), head };
  const given: Statistics | null = mean && std ? { mean, std } : channels === 3 ? IMAGENET : null;
  const { seed } = config.train;
  return {
    ...shape,
    weights: initialWeights(shape, seed),
    format: await formatFor({ vit: shape.vit, statistics: given }, gallery),
    what: `untrained (seed ${seed}): ${describe(options.run ?? 'the configuration', shape)}`,
  };
}

/** Raw pixels as features: as they are where all images have one size, else as an encoder would see them. */
export async function pixelRows(options: FeatureOptions, { gallery, queries }: Sets, printer: Printer): Promise<Rows> {
  const given = options.run !== undefined || options.weights !== undefined ? await weightsFrom(options, printer) : null;
  const [first, second] = [gallery.resident, (queries ?? gallery).resident];
  const alike =
    first &&
    second &&
    first.width === second.width &&
    first.height === second.height &&
    gallery.channels === (queries ?? gallery).channels;
  const { image_size: side } = (given?.config ?? (await configFrom(options))).model;
  const size = given || !alike ? side : null;
  const channels = Math.max(gallery.channels, queries?.channels ?? 1);
  const format = size === null ? null : { channels, size };
  const total = gallery.count + (queries?.count ?? 0);
  const progress = new CountProgress('images', printer);
  const started = performance.now();
  const rows = async (set: ImageSet, before: number) => {
    const { values, width } = await setPixels(set, format, (done) => progress.update(before + done, total));
    return { values: normalizeRows(values, width), width };
  };
  try {
    const own = await rows(gallery, 0);
    const asked = queries && (await rows(queries, gallery.count)).values;
    const what = `raw pixels, ${size === null ? `${first?.width} x ${first?.height}` : `${size} x ${size}`}`;
    return {
      gallery: own.values,
      queries: asked,
      width: own.width,
      what,
      imagesPerSecond: (1000 * total) / (performance.now() - started),
    };
  } finally {
    progress.stop();
  }
}
