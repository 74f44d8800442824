import {
  collapse,
  type Engine,
  type Evaluation,
  evaluateFeatures,
  type Features,
  type ImageEncoder,
  type ImageSet,
  preprocess,
  subset,
  type TrainingRun,
  toRgba,
} from '../../src/index.js';
import { principalPositions } from './pca.js';
import type { Look, Selection } from './protocol.js';

/** Images that are embedded at each look. */
const MOST = 480;
const SHOWN_IMAGES = 4;
const SHOWN_PROTOTYPES = 4;
const NEIGHBOURS = 8;
/** Side of a picture that is looked at closely, pixels: twice that on the page. */
const SHARP = 184;

/** Looks at a model through the same images again and again. */
export class Looker {
  private readonly images: Int32Array;
  private readonly shown: ImageSet;
  private axes: readonly Float64Array[] = [];
  private features: Features | null = null;
  /** The step of the last look; -1 before the first. */
  lookedAt = -1;

  constructor(private readonly set: ImageSet) {
    const count = Math.min(MOST, set.count);
    this.images = Int32Array.from({ length: count }, (_, i) => Math.floor((i * set.count) / count));
    this.shown = count === set.count ? set : subset(set, this.images);
  }

  /** Of a training: everything that can be seen. */
  async look(run: TrainingRun): Promise<{ readonly look: Look; readonly evaluation: Evaluation }> {
    const features = await run.embed(this.shown);
    const evaluation = await run.evaluate(features, this.shown);
    const views = await run.views(SHOWN_IMAGES);
    // Rows that still hold the random start of the memory have no picture.
    const prototypes = (await run.prototypes(Number.POSITIVE_INFINITY))
      .filter(({ anchor, support }) => [anchor, ...support].every(({ image }) => image !== null))
      .slice(0, SHOWN_PROTOTYPES);
    this.lookedAt = run.step;
    const entropy = run.lastRecord?.teacherEntropy ?? Number.NaN;
    const collapsed = collapse(evaluation.spread, entropy, run.config.sop.cls.anchors, this.shown.count);
    return { look: { ...this.compose(features, evaluation, run.step), collapsed, views, prototypes }, evaluation };
  }

  /** Of weights alone: there are no views and no prototypes. */
  async lookAt(
    encoder: ImageEncoder,
    engine: Engine,
  ): Promise<{ readonly look: Look; readonly evaluation: Evaluation }> {
    const features = await encoder.embed(this.shown);
    const evaluation = await evaluateFeatures(engine.gpu, features, this.shown.labels, [10]);
    const collapsed = collapse(evaluation.spread, Number.NaN, 1, this.shown.count);
    const nothing = { views: { grid: 0, images: [] }, prototypes: [] };
    return { look: { ...this.compose(features, evaluation, 0), collapsed, ...nothing }, evaluation };
  }

  /** [CLS]'s attention over an image, and the images most like it. */
  async select(encoder: ImageEncoder, image: number): Promise<Selection> {
    const { vit } = encoder.loaded;
    const attention = await encoder.attentionOf(this.set, image);
    const source = await this.set.read(image);
    // The crop that the encoder gets, but sharp; an image of exactly its size is not cropped.
    const whole = source.width === vit.imageSize && source.height === vit.imageSize;
    const size = whole ? vit.imageSize : Math.max(vit.imageSize, SHARP);
    const plain = { channels: vit.channels, size, mean: [0, 0, 0], std: [1, 1, 1] };
    const grid = vit.imageSize / vit.patch;
    return {
      image,
      size,
      pixels: toRgba(preprocess(source, plain), plain),
      heads: vit.heads,
      attention,
      grid,
      neighbours: await this.neighbours(encoder, image),
    };
  }

  private async neighbours(encoder: ImageEncoder, image: number): Promise<Selection['neighbours']> {
    const { features } = this;
    if (!features || features.width !== encoder.width) return [];
    const { values, width } = features;
    const place = this.images.indexOf(image);
    const own =
      place >= 0
        ? values.subarray(place * width, (place + 1) * width)
        : (await encoder.embed(subset(this.set, [image]))).values;
    const scores = Array.from(this.images, (other, row) => {
      let score = 0;
      for (let i = 0; i < width; i++) score += own[i]! * values[row * width + i]!;
      return { image: other, score };
    });
    return scores
      .filter((one) => one.image !== image)
      .sort((a, b) => b.score - a.score)
      .slice(0, NEIGHBOURS);
  }

  private compose(features: Features, { comparison, spread }: Evaluation, step: number) {
    this.features = features;
    const { positions, axes } = principalPositions(features.values, features.width, this.axes);
    this.axes = axes;
    const knn = comparison?.knn.top1[comparison.knn.bestK] ?? null;
    const { values, width } = features;
    return { step, knn, ...spread, images: this.images, positions, features: values, width };
  }
}
