import { firstNonFinite } from '../data/checkpoint.js';
import type { ImageSet } from '../data/dataset.js';
import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import { gridSide, type VitShape } from '../nn/vit.js';
import { bindingLimit } from '../plan/binding-limit.js';
import type { Encoder } from './encoder.js';
import { type ImageFormat, preprocess } from './preprocess.js';

/** Images of one forward pass at most: more fill no device better. */
const LARGEST_BATCH = 64;

/** Images of a forward pass whose largest tensor fits into one binding of `target`, at most `count`. */
export function encoderBatch(vit: VitShape, target: Target, count: number): number {
  const tokens = 1 + gridSide(vit.imageSize, vit.patch) ** 2;
  const inputs = vit.channels * vit.patch ** 2;
  const bytes = 4 * tokens * Math.max(3 * vit.width, Math.round(vit.width * vit.mlpRatio), inputs);
  const fits = Math.floor(bindingLimit(target) / bytes);
  return Math.max(1, Math.min(LARGEST_BATCH, count, fits));
}

/**
 * Raw features [count, width] of all images of a set, after the final norm.
 *
 * @throws SopError 65 for an image that cannot be decoded; 70 for a feature that is not finite, naming the image
 */
export async function setFeatures(
  encoder: Encoder,
  set: ImageSet,
  format: ImageFormat,
  progress?: (done: number) => void,
): Promise<Float32Array<ArrayBuffer>> {
  const image = async (index: number): Promise<Float32Array> => preprocess(await set.read(index), format);
  const features = await encoder.features(set.count, image, progress);
  const at = firstNonFinite(features);
  if (at < 0) return features;
  const index = Math.floor(at / encoder.width);
  throw new SopError(ExitCode.internal, {
    what: 'feature is not finite',
    where: `${set.name}, ${set.files?.[index] ?? `image ${index}`}`,
    why: `element ${at % encoder.width} is ${features[at]}`,
    fix: 'check the weights for NaN and infinity',
  });
}

/** Pixels of all images in [0, 1], [count, pixels of an image]: raw where `format` is null, else as an encoder would get them. */
export async function setPixels(
  set: ImageSet,
  format: Pick<ImageFormat, 'channels' | 'size'> | null,
  progress?: (done: number) => void,
): Promise<{ readonly values: Float32Array<ArrayBuffer>; readonly width: number }> {
  if (!format && set.resident) {
    const values = Float32Array.from(set.resident.pixels, (value) => value / 255);
    return { values, width: values.length / set.count };
  }
  if (!format) throw new RangeError(`${set.name} has images of several sizes`);
  const plain = { ...format, mean: [0, 0, 0], std: [1, 1, 1] };
  const width = format.channels * format.size ** 2;
  const values = new Float32Array(set.count * width);
  for (let i = 0; i < set.count; i++) {
    values.set(preprocess(await set.read(i), plain), i * width);
    progress?.(i + 1);
  }
  return { values, width };
}
