/** The middle one of the values, of an even number the larger of the two in the middle; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** So many significant digits, from 100 on all those before the point: never an exponent where people read a measurement. */
export function digits(value: number, count: 2 | 3 = 3): string {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(count)));
}

/** `1 image`, `2 images`. */
export function counted(count: number, one: string, more = `${one}s`): string {
  return `${count} ${count === 1 ? one : more}`;
}
