/** Keys' cubic convolution kernel; `a` is its slope at 1: -0.5 in PIL, -0.75 in PyTorch. */
export function cubic(x: number, a: number): number {
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}
