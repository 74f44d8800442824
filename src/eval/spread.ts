/** How far features are from collapse. */
export interface Spread {
  /** Mean over dimensions of the deviation of L2-normalised features, times sqrt(width): 1 on a uniform sphere, 0 collapsed. */
  readonly featureStd: number;
  /** exp of the entropy of the normalised singular values (Roy and Vetterli 2007): between 1 and width. */
  readonly effectiveRank: number;
}

/** Spread of `features` [rows, width], rows of unit norm. */
export function spread(features: Float32Array, width: number): Spread {
  const rows = features.length / width;
  const mean = new Float64Array(width);
  for (let i = 0; i < features.length; i++) mean[i % width]! += features[i]! / rows;
  const covariance = Array.from({ length: width }, () => new Float64Array(width));
  const centred = new Float64Array(width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) centred[i] = features[row * width + i]! - mean[i]!;
    for (let i = 0; i < width; i++)
      for (let j = 0; j <= i; j++) covariance[i]![j]! += (centred[i]! * centred[j]!) / rows;
  }
  for (let i = 0; i < width; i++) for (let j = 0; j < i; j++) covariance[j]![i] = covariance[i]![j]!;
  const deviation = covariance.reduce((sum, row, i) => sum + Math.sqrt(Math.max(0, row[i]!)), 0) / width;
  const singular = eigenvalues(covariance).map((value) => Math.sqrt(Math.max(0, value)));
  const total = singular.reduce((sum, value) => sum + value, 0);
  const entropy =
    total > 0
      ? singular.reduce((sum, value) => sum - (value > 0 ? (value / total) * Math.log(value / total) : 0), 0)
      : 0;
  return { featureStd: deviation * Math.sqrt(width), effectiveRank: Math.exp(entropy) };
}

/** Eigenvalues of a symmetric matrix, changed in place, by cyclic Jacobi rotations. */
function eigenvalues(a: Float64Array[]): number[] {
  const n = a.length;
  const trace = a.reduce((sum, row, i) => sum + Math.abs(row[i]!), 0);
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) off += a[p]![q]! ** 2;
    if (Math.sqrt(off) <= 1e-9 * trace) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(a, p, q);
  }
  return a.map((row, i) => row[i]!);
}

function rotate(a: Float64Array[], p: number, q: number): void {
  const apq = a[p]![q]!;
  if (apq === 0) return;
  const theta = (a[q]![q]! - a[p]![p]!) / (2 * apq);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const c = 1 / Math.sqrt(t * t + 1);
  const s = t * c;
  for (let k = 0; k < a.length; k++) {
    const [kp, kq] = [a[k]![p]!, a[k]![q]!];
    a[k]![p] = c * kp - s * kq;
    a[k]![q] = s * kp + c * kq;
  }
  for (let k = 0; k < a.length; k++) {
    const [pk, qk] = [a[p]![k]!, a[q]![k]!];
    a[p]![k] = c * pk - s * qk;
    a[q]![k] = s * pk + c * qk;
  }
}
