/** Sweeps of QL for one eigenvalue; two or three are usual. */
const MOST_SWEEPS = 60;

/**
 * Eigenvalues of a symmetric matrix [n, n], row-major, in no order: Householder tridiagonalisation, then QL with implicit
 * shifts (Golub and Van Loan, section 8.3), 4/3 n^3 multiplications. Errors are some roundings of the largest eigenvalue.
 * Only the lower triangle is read.
 */
export function symmetricEigenvalues(matrix: Float64Array, n: number): Float64Array {
  const { diagonal, below } = tridiagonal(Float64Array.from(matrix), n);
  return diagonalise(diagonal, below);
}

/** The diagonal and what stands below it, of a tridiagonal matrix with the same eigenvalues. Overwrites `a`. */
function tridiagonal(a: Float64Array, n: number): { diagonal: Float64Array; below: Float64Array } {
  const diagonal = new Float64Array(n);
  const below = new Float64Array(n);
  const v = new Float64Array(n);
  const w = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    diagonal[k] = a[k * n + k]!;
    let squares = 0;
    for (let i = k + 1; i < n; i++) squares += a[i * n + k]! ** 2;
    if (squares === 0) continue;
    // v reflects column k onto its first element; the sign avoids cancellation.
    const first = a[(k + 1) * n + k]!;
    const length = first > 0 ? -Math.sqrt(squares) : Math.sqrt(squares);
    below[k] = length;
    for (let i = k + 1; i < n; i++) v[i] = a[i * n + k]!;
    v[k + 1] = first - length;
    const scale = 2 / (squares - first * first + v[k + 1]! ** 2);
    w.fill(0);
    for (let i = k + 1; i < n; i++) {
      let sum = a[i * n + i]! * v[i]!;
      for (let j = k + 1; j < i; j++) {
        sum += a[i * n + j]! * v[j]!;
        w[j]! += a[i * n + j]! * v[i]!;
      }
      w[i]! += sum;
    }
    let overlap = 0;
    for (let i = k + 1; i < n; i++) overlap += scale * w[i]! * v[i]!;
    for (let i = k + 1; i < n; i++) w[i] = scale * (w[i]! - (overlap / 2) * v[i]!);
    for (let i = k + 1; i < n; i++) {
      const [vi, wi] = [v[i]!, w[i]!];
      for (let j = k + 1; j <= i; j++) a[i * n + j]! -= vi * w[j]! + wi * v[j]!;
    }
  }
  return { diagonal, below };
}

/** QL on a tridiagonal matrix; both arrays are overwritten, `d` with the eigenvalues. */
function diagonalise(d: Float64Array, e: Float64Array): Float64Array {
  const n = d.length;
  const norm = d.reduce((most, value, i) => Math.max(most, Math.abs(value) + Math.abs(e[i]!)), 0);
  const negligible = Number.EPSILON * norm;
  for (let l = 0; l < n; l++) {
    for (let sweep = 0; sweep < MOST_SWEEPS; sweep++) {
      let m = l;
      while (m < n - 1 && Math.abs(e[m]!) > negligible) m += 1;
      if (m === l) break;
      rotateUp(d, e, l, m);
    }
  }
  return d;
}

/** One implicit QL sweep over rows l to m with Wilkinson's shift. */
function rotateUp(d: Float64Array, e: Float64Array, l: number, m: number): void {
  const half = (d[l + 1]! - d[l]!) / (2 * e[l]!);
  const root = Math.hypot(half, 1);
  let g = d[m]! - d[l]! + e[l]! / (half + (half < 0 ? -root : root));
  let [s, c, p] = [1, 1, 0];
  for (let i = m - 1; i >= l; i--) {
    const f = s * e[i]!;
    const b = c * e[i]!;
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      // The matrix fell apart here: the next sweep goes on with its parts.
      d[i + 1]! -= p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1]! - p;
    const t = (d[i]! - g) * s + 2 * c * b;
    p = s * t;
    d[i + 1] = g + p;
    g = c * t - b;
  }
  d[l]! -= p;
  e[l] = g;
  e[m] = 0;
}
