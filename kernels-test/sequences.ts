import type { Segment } from '../src/ops/segments.js';

/** For each row of a token tensor: the sequence it is in and its place there. Plain loops, for references. */
export function rowsOf(segments: readonly Segment[]): { readonly sequence: number; readonly place: number }[] {
  const rows: { sequence: number; place: number }[] = [];
  let sequence = 0;
  for (const { count, length } of segments) {
    for (let s = 0; s < count; s++, sequence++) {
      for (let place = 0; place < length; place++) rows.push({ sequence, place });
    }
  }
  return rows;
}
