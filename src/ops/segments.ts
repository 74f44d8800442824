import { GraphError } from '../graph/op.js';

/**
 * `count` sequences of `length` rows each, one after the other. The rows of a token tensor are described by a list of these:
 * first the sequences of the global views, then those of the local ones. A type and not an interface, so that it is an
 * `Attribute`.
 */
export type Segment = { readonly count: number; readonly length: number };

/** A segment with its place in the tensor. */
export interface PlacedSegment extends Segment {
  /** Row of the tensor at which it begins. */
  readonly firstRow: number;
  /** Sequences of all segments before it. */
  readonly firstSequence: number;
}

export function totalRows(segments: readonly Segment[]): number {
  return segments.reduce((rows, { count, length }) => rows + count * length, 0);
}

export function totalSequences(segments: readonly Segment[]): number {
  return segments.reduce((sequences, { count }) => sequences + count, 0);
}

/** Each segment with the row and the sequence at which it begins. */
export function placeSegments(segments: readonly Segment[]): readonly PlacedSegment[] {
  return segments.map((segment, i) => {
    const before = segments.slice(0, i);
    return { ...segment, firstRow: totalRows(before), firstSequence: totalSequences(before) };
  });
}

/** @throws GraphError in the name of `op` unless the segments are whole and describe exactly `rows` rows */
export function checkSegments(op: string, segments: readonly Segment[], rows: number | undefined): void {
  const whole = segments.every(({ count, length }) => [count, length].every((n) => Number.isInteger(n) && n > 0));
  if (!whole || totalRows(segments) !== rows) {
    const said = segments.map(({ count, length }) => `${count} x ${length}`).join(' + ');
    throw new GraphError(op, `segments ${said} do not make up ${rows} rows`);
  }
}
