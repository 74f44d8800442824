import type { Config } from '../config/schema.js';
import { DRAWS, DRAWS_WIDTH, FLAG, JITTER, TABLE, TABLE_WIDTH } from '../ops/augment.js';
import type { Draws } from '../rng.js';

/** Sides in pixels. */
export interface ImageSize {
  readonly width: number;
  readonly height: number;
}

/** Where an image lies among the pixels on the device. */
export interface ImageSource extends ImageSize {
  /** Its first byte. */
  readonly offset: number;
}

/** Part of an image in whole pixels. */
export interface Crop {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Everything that is drawn for a view. */
export interface ViewParameters {
  readonly crop: Crop;
  readonly flip: boolean;
  /** Factors (1 = none), hue shift in turns, and `JITTER` operations in the order in which they are applied. */
  readonly jitter: {
    readonly brightness: number;
    readonly contrast: number;
    readonly saturation: number;
    readonly hue: number;
    readonly order: readonly number[];
  };
  readonly grey: boolean;
  /** Of the Gaussian blur, pixels of the view; 0 = none. */
  readonly sigma: number;
  readonly solarize: boolean;
}

/** First global view, second global view, any local view: they differ in size, scale, blur and solarization. */
export type ViewKind = 'global0' | 'global1' | 'local';

/** The two sections of the configuration that say how views are drawn. */
export type DrawOptions = Pick<Config, 'views' | 'augment'>;

/** Place of a kind in the lists of three of `augment.blur` and `augment.solarize`. */
const KIND = { global0: 0, global1: 1, local: 2 } as const satisfies Record<ViewKind, number>;

/** Aspect ratios of crops; a width over a height. */
const ASPECT = [3 / 4, 4 / 3] as const;
const ATTEMPTS = 10;

/** Draws a view of an image of this size; uses up numbers of `draws`. */
export function drawView(
  draws: Draws,
  kind: ViewKind,
  image: ImageSize,
  { views, augment }: DrawOptions,
): ViewParameters {
  const crop = drawCrop(draws, image, kind === 'local' ? views.local_scale : views.global_scale);
  const flip = draws.chance(augment.flip);
  const jitter = draws.chance(augment.jitter) ? drawJitter(draws, augment) : NO_JITTER;
  const grey = draws.chance(augment.grey);
  const sigma = draws.chance(augment.blur[KIND[kind]]) ? draws.uniform(...augment.blur_sigma) : 0;
  return { crop, flip, jitter, grey, sigma, solarize: draws.chance(augment.solarize[KIND[kind]]) };
}

/**
 * RandomResizedCrop: area uniform in `scale` times the image's, aspect ratio log-uniform, ten attempts to fit it in; then
 * the largest part in the middle whose aspect ratio is allowed, as torchvision has it.
 */
export function drawCrop(draws: Draws, { width, height }: ImageSize, scale: readonly [number, number]): Crop {
  const [narrow, wide] = ASPECT;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = width * height * draws.uniform(...scale);
    const aspect = Math.exp(draws.uniform(Math.log(narrow), Math.log(wide)));
    const w = Math.round(Math.sqrt(area * aspect));
    const h = Math.round(Math.sqrt(area / aspect));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    return { x: draws.below(width - w + 1), y: draws.below(height - h + 1), width: w, height: h };
  }
  const w = width > wide * height ? Math.max(1, Math.round(wide * height)) : width;
  const h = width < narrow * height ? Math.max(1, Math.round(width / narrow)) : height;
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

const NO_JITTER = {
  brightness: 1,
  contrast: 1,
  saturation: 1,
  hue: 0,
  order: [JITTER.brightness, JITTER.contrast, JITTER.saturation, JITTER.hue],
} as const;

function drawJitter(draws: Draws, strength: DrawOptions['augment']): ViewParameters['jitter'] {
  const factor = (within: number): number => draws.uniform(Math.max(0, 1 - within), 1 + within);
  return {
    order: [...draws.permutation(4)],
    brightness: factor(strength.brightness),
    contrast: factor(strength.contrast),
    saturation: factor(strength.saturation),
    hue: draws.uniform(-strength.hue, strength.hue),
  };
}

/** What the op `augment` reads of n views. */
export interface ViewArrays {
  /** [n, 8]. */
  readonly table: Uint32Array<ArrayBuffer>;
  /** [n, 5]. */
  readonly draws: Float32Array<ArrayBuffer>;
}

/** Arrays for `count` views, to be filled by `encodeViews` for each step. */
export function newViewArrays(count: number): ViewArrays {
  return { table: new Uint32Array(count * TABLE_WIDTH), draws: new Float32Array(count * DRAWS_WIDTH) };
}

/**
 * Fills `arrays` for views of one size in view-major order: all images' first view, then their second, and so on. View i is
 * one of image i mod `sources.length`.
 *
 * @throws RangeError for numbers that do not fit together or a crop that is not inside its image: a bug of the caller
 */
export function encodeViews(
  { table, draws }: ViewArrays,
  views: readonly ViewParameters[],
  sources: readonly ImageSource[],
): void {
  if (views.length * TABLE_WIDTH !== table.length || views.length % sources.length !== 0)
    throw new RangeError(`${views.length} views of ${sources.length} images for a table of ${table.length} words`);
  views.forEach(({ crop, flip, jitter, grey, sigma, solarize }, i) => {
    const source = sources[i % sources.length] as ImageSource;
    if (!inside(crop, source))
      throw new RangeError(`view ${i}: crop ${Object.values(crop)} of ${source.width} x ${source.height} pixels`);
    const row = i * TABLE_WIDTH;
    table[row + TABLE.offset] = source.offset;
    table[row + TABLE.width] = source.width;
    table[row + TABLE.x] = crop.x;
    table[row + TABLE.y] = crop.y;
    table[row + TABLE.cropWidth] = crop.width;
    table[row + TABLE.cropHeight] = crop.height;
    table[row + TABLE.flags] = (flip ? FLAG.flip : 0) | (grey ? FLAG.grey : 0) | (solarize ? FLAG.solarize : 0);
    table[row + TABLE.order] = jitter.order.reduce((code, operation, step) => code | (operation << (2 * step)), 0);
    const numbers = i * DRAWS_WIDTH;
    draws[numbers + DRAWS.brightness] = jitter.brightness;
    draws[numbers + DRAWS.contrast] = jitter.contrast;
    draws[numbers + DRAWS.saturation] = jitter.saturation;
    draws[numbers + DRAWS.hue] = jitter.hue;
    draws[numbers + DRAWS.sigma] = sigma;
  });
}

/** Whether a crop has pixels and all of them are the image's. */
export function inside({ x, y, width, height }: Crop, image: ImageSize): boolean {
  const sides = width > 0 && height > 0 && x + width <= image.width && y + height <= image.height;
  return x >= 0 && y >= 0 && sides;
}
