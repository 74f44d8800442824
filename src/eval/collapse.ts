import type { Spread } from './spread.js';

/** Features that vary less, as a share of those spread over a whole sphere, are the same for all images. */
const LEAST_STD = 0.02;
/** Runs at a learning rate much too high end at two dimensions; those that learn, however small, had five and more. */
const LEAST_RANK = 2.5;
/** The features of fewer images differ in few directions however good they are. */
const LEAST_IMAGES = 10;
/** Share of ln K: predictions nearer to uniform than this name no prototype. */
const MOST_ENTROPY = 0.999;
/** Share of ln K: predictions with less always name the same one. */
const LEAST_ENTROPY = 1e-4;

/**
 * What is wrong, in plain words, with an encoder that gives all images the same features, or with a teacher that predicts
 * the same for all of them; null where training is well, or too few images were looked at to tell.
 *
 * @param teacherEntropy mean entropy of the teacher's [CLS] predictions, nats
 * @param anchors K, so that ln K is the largest entropy there can be
 * @param images how many the spread is that of
 */
export function collapse(
  { featureStd, effectiveRank }: Spread,
  teacherEntropy: number,
  anchors: number,
  images: number,
): string | null {
  if (images < LEAST_IMAGES) return null;
  if (featureStd < LEAST_STD) {
    return `all images get nearly the same features (standard deviation ${featureStd.toPrecision(2)} of 1)`;
  }
  if (effectiveRank < LEAST_RANK) {
    return `the features of all images differ in hardly two directions (effective rank ${effectiveRank.toFixed(2)})`;
  }
  const share = teacherEntropy / Math.log(anchors);
  if (share > MOST_ENTROPY) return 'the teacher sees no difference between prototypes (its predictions are uniform)';
  if (share < LEAST_ENTROPY) return 'the teacher is certain of one prototype whatever the image (entropy 0)';
  return null;
}
