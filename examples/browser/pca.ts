/**
 * Positions in [0, 1] of the rows of `values` [rows, width] along their two principal components, [rows, 2]. Components by
 * power iteration on the covariance; signs are such that a map of slightly changed features does not flip.
 *
 * @param before axes of the map before, so that the new one lies as it did
 */
export function principalPositions(
  values: Float32Array,
  width: number,
  before: readonly Float64Array[] = [],
): { readonly positions: Float32Array; readonly axes: readonly Float64Array[] } {
  const rows = values.length / width;
  const mean = new Float64Array(width);
  for (let r = 0; r < rows; r++) for (let i = 0; i < width; i++) mean[i]! += values[r * width + i]! / rows;
  const axes: Float64Array[] = [];
  for (const place of [0, 1]) {
    // The axis before is the best first guess, and keeps the sign.
    let axis = before[place]?.length === width ? Float64Array.from(before[place]!) : startAxis(width, place);
    for (let sweep = 0; sweep < 40; sweep++) {
      const next = new Float64Array(width);
      for (let r = 0; r < rows; r++) {
        let along = 0;
        for (let i = 0; i < width; i++) along += (values[r * width + i]! - mean[i]!) * axis[i]!;
        for (let i = 0; i < width; i++) next[i]! += along * (values[r * width + i]! - mean[i]!);
      }
      for (const other of axes) {
        const overlap = dot(next, other);
        for (let i = 0; i < width; i++) next[i]! -= overlap * other[i]!;
      }
      const length = Math.sqrt(dot(next, next));
      if (!(length > 0)) break; // all rows are alike
      axis = next.map((value) => value / length);
    }
    axes.push(axis);
  }
  const raw = new Float32Array(rows * 2);
  for (let r = 0; r < rows; r++) {
    axes.forEach((axis, place) => {
      let along = 0;
      for (let i = 0; i < width; i++) along += (values[r * width + i]! - mean[i]!) * axis[i]!;
      raw[2 * r + place] = along;
    });
  }
  return { positions: intoUnitSquare(raw), axes };
}

/** Scales each coordinate to [0, 1]; where all are alike they lie in the middle. */
export function intoUnitSquare(positions: Float32Array): Float32Array {
  const result = new Float32Array(positions.length);
  for (const place of [0, 1]) {
    let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (let i = place; i < positions.length; i += 2) {
      least = Math.min(least, positions[i]!);
      most = Math.max(most, positions[i]!);
    }
    for (let i = place; i < positions.length; i += 2)
      result[i] = most > least ? (positions[i]! - least) / (most - least) : 0.5;
  }
  return result;
}

function startAxis(width: number, place: number): Float64Array {
  return Float64Array.from({ length: width }, (_, i) => Math.cos((i + 1) * (place + 1)) / Math.sqrt(width));
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
