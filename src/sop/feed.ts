import { type Config, imagesPerStep } from '../config/schema.js';
import { drawView, encodeViews, type ImageSource, newViewArrays, type ViewKind } from '../data/augment.js';
import type { DecodedImage, ImageSet } from '../data/dataset.js';
import { Prefetcher } from '../data/prefetch.js';
import { shrink } from '../data/shrink.js';
import { ExitCode, SopError } from '../errors.js';
import type { Tensor } from '../graph/tensor.js';
import { gridSide } from '../nn/vit.js';
import { Draws, permutation } from '../rng.js';
import { drawMask, maskInputs } from './masks.js';
import { dropPathRates } from './setup.js';
import { maskWrites, type Write } from './step-inputs.js';
import { type Training, UPLOAD_AREA, type ViewDraws } from './training.js';

/** Everything that the host writes for one step. */
export interface StepBatch {
  /** Optimizer step, counted from 0. */
  readonly step: number;
  /** Counted from 0. */
  readonly epoch: number;
  readonly writes: readonly Write[];
}

/** Steps in an epoch: the last incomplete batch is dropped. @throws SopError 66 for a set smaller than a batch */
export function stepsPerEpoch(count: number, config: Config): number {
  const images = imagesPerStep(config);
  const steps = Math.floor(count / images);
  if (steps > 0) return steps;
  throw new SopError(ExitCode.noInput, {
    what: 'the set is smaller than a batch',
    where: 'train.batch_size',
    why: `expected at least ${images} images, got ${count}`,
    fix: `lower train.batch_size${config.optim.accumulate > 1 ? ' or optim.accumulate' : ''}, or give more images`,
  });
}

/**
 * Draws and encodes what each step reads: image order, crops, masks, dropped branches, patches for E_P. All of it is a pure
 * function of (seed, epoch, step, item), so a resumed run continues as if it had never stopped. Images of sets that are not
 * resident are decoded ahead of their step.
 */
export class Feed {
  readonly stepsPerEpoch: number;
  private readonly prefetcher: Prefetcher;
  private order: { epoch: number; indices: Uint32Array } = { epoch: -1, indices: new Uint32Array() };

  /**
   * @param firstStep the step of the first batch, counted from 0
   * @throws SopError 66 for a set smaller than a batch
   */
  constructor(
    private readonly training: Training,
    private readonly set: ImageSet,
    firstStep: number,
  ) {
    this.stepsPerEpoch = stepsPerEpoch(set.count, training.config);
    const area = UPLOAD_AREA * training.config.model.image_size ** 2;
    // Reduced as soon as decoded: the batches ahead, as photographs come from a camera, are gigabytes.
    const read = async (index: number) => shrink(await set.read(index), area);
    const source = training.data.residentBytes === null ? { read } : set;
    this.prefetcher = new Prefetcher(source, (step) => this.imagesOf(step), { firstStep });
  }

  /** The images of a resident set, to be written once; nothing otherwise. */
  static residentPixels({ views, data }: Training, set: ImageSet): Write[] {
    const pixels = views[0]?.pixels;
    // A set in memory that no binding can hold is uploaded batch by batch.
    if (!pixels || !set.resident || data.residentBytes === null) return [];
    const words = new Uint32Array(pixels.shape[0] ?? 0);
    new Uint8Array(words.buffer).set(set.resident.pixels);
    return [[pixels, words]];
  }

  /** The next step's batch, in order. @throws what `ImageSet.read` throws, and RangeError after `close` */
  async next(): Promise<StepBatch> {
    const batch = await this.prefetcher.next();
    if (!batch) throw new RangeError('the feed is closed');
    const { step, indices, images } = batch;
    let end = 0;
    const writes = this.training.shape.batches.flatMap(({ images: size }, micro) => {
      const first = end;
      end += size;
      return this.microBatch(step, micro, first, indices.slice(first, end), images.slice(first, end));
    });
    return { step, epoch: this.epochOf(step), writes };
  }

  /** Ends the decoding ahead. */
  close(): void {
    this.prefetcher.close();
  }

  /** The images of a step (counted from 0), in the order of its rows. */
  imagesOf(step: number): Uint32Array {
    const { config } = this.training;
    const epoch = this.epochOf(step);
    if (this.order.epoch !== epoch)
      this.order = { epoch, indices: permutation(config.train.seed, epoch, this.set.count) };
    const images = imagesPerStep(config);
    const start = (step % this.stepsPerEpoch) * images;
    return this.order.indices.slice(start, start + images);
  }

  private epochOf(step: number): number {
    return Math.floor(step / this.stepsPerEpoch);
  }

  private microBatch(
    step: number,
    micro: number,
    /** Place of its first image among those of the step: what is drawn for an image does not depend on the division. */
    firstItem: number,
    indices: readonly number[],
    images: readonly DecodedImage[],
  ): Write[] {
    const { training } = this;
    const views = training.views[micro];
    const batch = training.step.batches[micro];
    if (!views || !batch) throw new RangeError(`no micro-batch ${micro}`);
    const { writes, placed } =
      training.data.residentBytes === null
        ? this.upload(views.pixels, images)
        : { writes: [], placed: this.inPlace(indices) };
    return [
      ...writes,
      ...this.draw(views.global, ['global0', 'global1'], step, firstItem, placed),
      ...(views.local
        ? this.draw(
            views.local,
            new Array<ViewKind>(training.config.views.local_count).fill('local'),
            step,
            firstItem,
            placed,
          )
        : []),
      ...this.masks(step, firstItem, micro),
      ...this.kept(step, firstItem, micro),
    ];
  }

  /** Where the images of a resident set lie. */
  private inPlace(indices: readonly number[]): ImageSource[] {
    const { resident, channels } = this.set;
    if (!resident) throw new RangeError('the set is not resident');
    const { width, height } = resident;
    return indices.map((index) => ({ width, height, offset: index * width * height * channels }));
  }

  /** The pixels of a batch, one image behind the other. */
  private upload(pixels: Tensor, images: readonly DecodedImage[]): { writes: Write[]; placed: ImageSource[] } {
    const words = new Uint32Array(pixels.shape[0] ?? 0);
    const bytes = new Uint8Array(words.buffer);
    let offset = 0;
    const placed = images.map(({ width, height, data }) => {
      bytes.set(data, offset);
      const place = { width, height, offset };
      offset += data.length;
      return place;
    });
    return { writes: [[pixels, words]], placed };
  }

  /** Parameters of the views of these kinds, view-major. */
  private draw(
    { table, draws }: ViewDraws,
    kinds: readonly ViewKind[],
    step: number,
    firstItem: number,
    placed: readonly ImageSource[],
  ): Write[] {
    const { train, augment, views } = this.training.config;
    const parameters = kinds.flatMap((kind, view) =>
      placed.map((image, i) => {
        // Views of one image are items of their own; local ones come after the two global ones.
        const item = (firstItem + i) * VIEWS_OF_IMAGE + (kind === 'local' ? 2 : 0) + view;
        return drawView(new Draws({ seed: train.seed, purpose: 'augment', step, item }), kind, image, {
          augment,
          views,
        });
      }),
    );
    const arrays = newViewArrays(parameters.length);
    encodeViews(arrays, parameters, placed);
    return [
      [table, arrays.table],
      [draws, arrays.draws],
    ];
  }

  private masks(step: number, firstItem: number, micro: number): Write[] {
    const { config, shape, step: traced } = this.training;
    const { inputs } = traced.batches[micro]!;
    const { images, maskedPatches } = shape.batches[micro]!;
    const side = gridSide(config.model.image_size, config.model.patch_size);
    const patches = side * side;
    const { seed } = config.train;
    const { kind, ratio, ratio_var: ratioVar } = config.mask;
    const masks = new Uint8Array(2 * images * patches);
    for (let row = 0; row < 2 * images; row++) {
      const item = 2 * (firstItem + (row % images)) + Math.floor(row / images);
      masks.set(
        drawMask(new Draws({ seed, purpose: 'mask', step, item }), { kind, ratio, ratioVar }, [side, side]),
        row * patches,
      );
    }
    const patchRows = drawPatchRows(seed, step, firstItem, images, patches);
    const lists = maskInputs({
      masks,
      patchRows,
      batch: images,
      patches,
      maskedPatches,
      layout: 'train',
    });
    return maskWrites(inputs, lists);
  }

  /** Stochastic depth: each branch of each block is kept with probability 1 - rate and divided by it, for each view alone. */
  private kept(step: number, firstItem: number, micro: number): Write[] {
    const { config, shape, step: traced } = this.training;
    const { inputs, images } = traced.batches[micro]!;
    const { keep } = inputs;
    if (!keep) return [];
    const rates = dropPathRates(config.model.drop_path, shape.network.vit.depth);
    const sequences = keep.shape[1] ?? 0;
    const values = new Float32Array(2 * rates.length * sequences);
    for (let sequence = 0; sequence < sequences; sequence++) {
      const item = (firstItem + (sequence % images)) * VIEWS_OF_IMAGE + Math.floor(sequence / images);
      const random = new Draws({ seed: config.train.seed, purpose: 'dropPath', step, item });
      rates.forEach((rate, block) => {
        for (const branch of [0, 1])
          values[(2 * block + branch) * sequences + sequence] = random.chance(1 - rate) ? 1 / (1 - rate) : 0;
      });
    }
    return [[keep, values]];
  }
}

/**
 * The patch that each image of a micro-batch gives to E_P.
 *
 * @param step optimizer step, counted from 0
 * @param firstItem the number of its first image in the step
 */
export function drawPatchRows(
  seed: number,
  step: number,
  firstItem: number,
  batch: number,
  patches: number,
): Int32Array {
  return Int32Array.from({ length: batch }, (_, i) =>
    new Draws({ seed, purpose: 'patchRow', step, item: firstItem + i }).below(patches),
  );
}

/** More views than any image has (`views.local_count` is at most 64): numbers views across images. */
const VIEWS_OF_IMAGE = 128;
