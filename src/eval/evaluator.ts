import { type ImageSet, subset } from '../data/dataset.js';
import type { Gpu } from '../gpu/device.js';
import { Draws } from '../rng.js';
import type { NetworkShape } from '../sop/networks.js';
import { Encoder, type Weights } from './encoder.js';
import { encoderBatch, setFeatures, setPixels } from './features.js';
import { type Comparison, classCount, compareFeatures, severalClasses } from './knn.js';
import type { ImageFormat } from './preprocess.js';
import { normalizeRows } from './similarity.js';
import { type Spread, spread } from './spread.js';

/** Images that features are compared on. `queries` null: each gallery image against all others. */
export interface Protocol {
  readonly gallery: ImageSet;
  readonly queries: ImageSet | null;
  /** Numbers of voting neighbours, at least one. */
  readonly k: readonly number[];
}

/** What an evaluation measures. */
export interface Evaluation {
  /** Null where there are no labels, or a single class. */
  readonly comparison: Comparison | null;
  readonly spread: Spread;
}

/** Images of an evaluation in the middle of training: enough for a standard error of one point, few enough to be quick. */
const GALLERY = 5000;
const QUERIES = 2000;

/** The part of a data set that is looked at while training goes on: the same images for the same seed. */
export function quickProtocol(train: ImageSet, test: ImageSet | null, k: readonly number[], seed: number): Protocol {
  const some = (set: ImageSet, count: number, item: number): ImageSet => {
    if (set.count <= count) return set;
    const order = new Draws({ seed, purpose: 'evaluation', item }).permutation(set.count);
    return subset(set, order.slice(0, count).sort());
  };
  return { gallery: some(train, GALLERY, 0), queries: test?.labels && train.labels ? some(test, QUERIES, 1) : null, k };
}

/** Measures an encoder by the k-NN protocol (the paper's Section 3.1) and by the spread of its features. Browser-safe. */
export class Evaluator {
  private constructor(
    private readonly gpu: Gpu,
    private readonly encoder: Encoder,
    private readonly format: ImageFormat,
    readonly protocol: Protocol,
  ) {}

  /**
   * Compiles the backbone of `shape`; `format` is that of its images.
   * @throws SopError 69 for a limit or memory that does not suffice, 70 for a shader that does not compile, 75 for a lost device
   */
  static async create(gpu: Gpu, shape: NetworkShape, format: ImageFormat, protocol: Protocol): Promise<Evaluator> {
    const images = protocol.gallery.count + (protocol.queries?.count ?? 0);
    const encoder = await Encoder.create(gpu, shape, encoderBatch(shape.vit, gpu.target, images));
    return new Evaluator(gpu, encoder, format, protocol);
  }

  /**
   * Evaluates these weights. `progress` counts images.
   * @throws SopError 65 for weights that do not fit and an image that cannot be decoded, 70 for a feature that is not finite
   */
  async evaluate(weights: Weights, progress?: (done: number, total: number) => void): Promise<Evaluation> {
    this.encoder.load(weights);
    const { gallery, queries } = this.protocol;
    const total = gallery.count + (queries?.count ?? 0);
    const features = async (set: ImageSet, before: number): Promise<Float32Array> =>
      normalizeRows(
        await setFeatures(this.encoder, set, this.format, (done) => progress?.(before + done, total)),
        this.encoder.width,
      );
    const galleryFeatures = await features(gallery, 0);
    const queryFeatures = queries && (await features(queries, gallery.count));
    const { width } = this.encoder;
    return {
      comparison: await this.compare(galleryFeatures, queryFeatures, width),
      spread: spread(galleryFeatures.subarray(0, SPREAD_ROWS * width), width),
    };
  }

  /** The same protocol on normalised pixels. */
  async evaluatePixels(): Promise<Comparison | null> {
    const { gallery, queries } = this.protocol;
    const width = this.format.channels * this.format.size ** 2;
    const pixels = async (set: ImageSet): Promise<Float32Array> =>
      normalizeRows((await setPixels(set, this.format)).values, width);
    const galleryPixels = await pixels(gallery);
    return this.compare(galleryPixels, queries && (await pixels(queries)), width);
  }

  /** Frees everything on the device. */
  destroy(): void {
    this.encoder.destroy();
  }

  private async compare(
    gallery: Float32Array,
    queries: Float32Array | null,
    width: number,
  ): Promise<Comparison | null> {
    const { gallery: set, queries: querySet, k } = this.protocol;
    const [own, asked] = [set.labels, (querySet ?? set).labels];
    if (!own || !asked || !severalClasses(own)) return null;
    const labels = { gallery: own, queries: asked };
    return compareFeatures(this.gpu, { gallery, queries, width }, labels, classCount(own, asked), k);
  }
}

/** Rows of the covariance: its cost is rows x width^2. */
const SPREAD_ROWS = 2000;
