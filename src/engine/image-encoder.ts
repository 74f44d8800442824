import type { ImageSet } from '../data/dataset.js';
import { type Picture, pictureSet } from '../data/pictures.js';
import { decodeSafetensors } from '../data/safetensors.js';
import { channelStatistics } from '../data/statistics.js';
import { ExitCode, SopError, usedAfter } from '../errors.js';
import { type ClsAttention, clsAttention } from '../eval/cls-attention.js';
import { Encoder } from '../eval/encoder.js';
import type { Evaluation } from '../eval/evaluator.js';
import { encoderBatch, setFeatures } from '../eval/features.js';
import { classCount, compareFeatures, severalClasses } from '../eval/knn.js';
import { type ImageFormat, preprocess } from '../eval/preprocess.js';
import { normalizeRows } from '../eval/similarity.js';
import { spread } from '../eval/spread.js';
import { imageFormat, type LoadedWeights, openWeights, readWeights, type WeightOverrides } from '../eval/weights.js';
import type { Gpu } from '../gpu/device.js';
import { Turns } from '../turns.js';

/** Features of some images. */
export interface Features {
  /** f32 [count, width], rows of unit norm: dot products are cosines. */
  readonly values: Float32Array<ArrayBuffer>;
  readonly count: number;
  readonly width: number;
}

/**
 * The backbone of a safetensors file: timm's names, Hugging Face's, or a checkpoint of ours.
 * @throws SopError 65 for a file that is damaged or no ViT, 64 for overrides that do not fit it
 */
export function loadWeights(bytes: Uint8Array, overrides: WeightOverrides = {}, where = 'weights'): LoadedWeights {
  const { tensors, metadata } = decodeSafetensors(bytes, where);
  return readWeights(openWeights(tensors, metadata, where), overrides);
}

/**
 * k-NN accuracy of features, each image against all others, where there are at least two classes; and their spread.
 * @param labels class index of each row, [count], or null
 * @param k numbers of voting neighbours, at least one
 * @throws SopError 64 for another number of labels than of features, and for no `k`
 */
export async function evaluateFeatures(
  gpu: Gpu,
  { values, count, width }: Features,
  labels: Int32Array | null,
  k: readonly number[],
): Promise<Evaluation> {
  if (labels && labels.length !== count) {
    const why = `${labels.length} labels, ${count} features`;
    throw new SopError(ExitCode.usage, { what: 'labels do not fit', where: 'labels', why, fix: 'give as many' });
  }
  const rows = { gallery: values, queries: null, width };
  const own = labels && severalClasses(labels) ? { gallery: labels, queries: labels } : null;
  const comparison = own && (await compareFeatures(gpu, rows, own, classCount(own.gallery), k));
  return { comparison, spread: spread(values, width) };
}

/** A frozen encoder with its weights: images in, features out. */
export class ImageEncoder {
  private constructor(
    private readonly gpu: Gpu,
    private current: LoadedWeights,
    private readonly encoder: Encoder,
    private attention: ClsAttention | null = null,
    private readonly turns = new Turns(),
    private destroyed = false,
  ) {}

  /**
   * Compiles the backbone and loads its weights.
   * @param batch images of a forward pass at most; as many as the device gains from where it is left out
   * @throws SopError 65 naming a weight that is missing or of another size; 69 for a limit or memory that does not suffice,
   * 70 for a shader that does not compile, 75 for a lost device
   */
  static async create(gpu: Gpu, loaded: LoadedWeights, batch?: number): Promise<ImageEncoder> {
    const size = encoderBatch(loaded.vit, gpu.target, batch ?? Number.POSITIVE_INFINITY);
    const encoder = await Encoder.create(gpu, loaded, size);
    try {
      encoder.load(loaded.weights);
    } catch (error) {
      encoder.destroy(); // nobody else could
      throw error;
    }
    return new ImageEncoder(gpu, loaded, encoder);
  }

  /** Takes other weights of the same shape, not while `embed` runs. @throws SopError 65 naming one that is missing or of another size */
  load(loaded: LoadedWeights): void {
    this.encoder.load(loaded.weights);
    this.attention?.load(loaded.weights);
    this.current = loaded;
  }

  /** The weights, and what is known of them. */
  get loaded(): LoadedWeights {
    return this.current;
  }

  /** Numbers in a feature. */
  get width(): number {
    return this.encoder.width;
  }

  /**
   * Features of a set, or of pictures that are decoded first. Images whose sides equal the encoder's image size are used
   * as they are, others by the evaluation protocol (shorter side to size x 256 / 224, centre crop).
   * @throws SopError 65 for an image that cannot be decoded, 66 for none, 70 for a feature that is not finite
   */
  async embed(images: ImageSet | readonly Picture[], progress?: (done: number) => void): Promise<Features> {
    const channels = this.loaded.vit.channels === 1 ? 1 : 3;
    const set = 'read' in images ? images : await pictureSet(images, { channels });
    const values = await setFeatures(this.encoder, set, await this.format(set), progress);
    return { values: normalizeRows(values, this.width), count: set.count, width: this.width };
  }

  /**
   * How much [CLS] of the last block attends to each patch of an image, f32 [heads, patches]; rows sum to 1 with [CLS] itself.
   * @throws RangeError for an index outside the set
   */
  attentionOf(set: ImageSet, index: number): Promise<Float32Array<ArrayBuffer>> {
    return this.turns.take(async () => {
      if (this.destroyed) throw usedAfter('the encoder', 'destroy');
      this.attention ??= await clsAttention(this.gpu, this.loaded);
      if (this.destroyed) this.attention.destroy(); // meanwhile
      return this.attention.of(preprocess(await set.read(index), await this.format(set)));
    });
  }

  /** Frees everything on the device. May be called twice. */
  destroy(): void {
    this.destroyed = true;
    this.encoder.destroy();
    this.attention?.destroy();
  }

  private async format(set: ImageSet): Promise<ImageFormat> {
    const own = this.loaded.statistics ?? (await channelStatistics(set));
    return imageFormat(this.loaded, own);
  }
}
