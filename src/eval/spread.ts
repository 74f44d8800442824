import { symmetricEigenvalues } from './eigenvalues.js';

/** How far features are from collapse. */
export interface Spread {
  /** Mean over dimensions of the deviation of L2-normalised features, times sqrt(width): 1 on a uniform sphere, 0 collapsed. */
  readonly featureStd: number;
  /** exp of the entropy of the normalised singular values (Roy and Vetterli 2007): between 1 and width. */
  readonly effectiveRank: number;
}

/** Spread of `features` [rows, width], rows of unit norm. */
export function spread(features: Float32Array, width: number): Spread {
  const covariance = covarianceOf(features, width);
  let deviation = 0;
  for (let i = 0; i < width; i++) deviation += Math.sqrt(covariance[i * width + i]!) / width;
  const values = symmetricEigenvalues(covariance, width);
  // What is below the rounding of the largest is zero: its root would count.
  const noise = width * Number.EPSILON * values.reduce((most, value) => Math.max(most, value), 0);
  const singular = values.map((value) => (value > noise ? Math.sqrt(value) : 0));
  const total = singular.reduce((sum, value) => sum + value, 0);
  const share = (value: number): number => (value > 0 ? (value / total) * Math.log(value / total) : 0);
  const entropy = total > 0 ? -singular.reduce((sum, value) => sum + share(value), 0) : 0;
  return { featureStd: deviation * Math.sqrt(width), effectiveRank: Math.exp(entropy) };
}

/** Lower triangle of the covariance [width, width]. */
function covarianceOf(features: Float32Array, width: number): Float64Array {
  const rows = features.length / width;
  const mean = new Float64Array(width);
  for (let row = 0; row < rows; row++) for (let i = 0; i < width; i++) mean[i]! += features[row * width + i]! / rows;
  const covariance = new Float64Array(width * width);
  const centred = new Float64Array(width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) centred[i] = features[row * width + i]! - mean[i]!;
    for (let i = 0; i < width; i++) {
      const value = centred[i]! / rows;
      for (let j = 0; j <= i; j++) covariance[i * width + j]! += value * centred[j]!;
    }
  }
  return covariance;
}
