import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type Nearest, nearest } from './similarity.js';

/** Accuracies of the k-NN protocol in percent, by number of voting neighbours (`'10'`). */
export interface KnnResult {
  /** Queries whose own class has the most votes. */
  readonly top1: Readonly<Record<string, number>>;
  /** Queries whose own class is among the five with the most votes. */
  readonly top5: Readonly<Record<string, number>>;
  /** The number of neighbours of the highest `top1`, the first of equals. */
  readonly bestK: number;
}

/** What neighbours say. */
export interface Comparison {
  readonly knn: KnnResult;
  readonly nearest: Nearest;
}

/** Rows of unit norm, [count, width] each. `queries` null: each gallery row against all others. */
export interface ComparedRows {
  readonly gallery: Float32Array;
  readonly queries: Float32Array | null;
  readonly width: number;
}

/** Class of each row; without queries of their own both are the gallery's. */
export interface ComparedLabels {
  readonly gallery: Int32Array;
  readonly queries: Int32Array;
}

/**
 * The k-NN protocol (the paper's Section 3.1) on features or pixels.
 *
 * @param classes at least 1 + the largest label
 * @param k numbers of voting neighbours
 * @param progress is told how many queries are done
 * @throws SopError 64 for no `k`, or one that is no number of neighbours; what `nearest` throws
 */
export async function compareFeatures(
  gpu: Gpu,
  { gallery, queries, width }: ComparedRows,
  labels: ComparedLabels,
  classes: number,
  k: readonly number[],
  progress?: (done: number) => void,
): Promise<Comparison> {
  if (k.length === 0 || !k.every((one) => Number.isInteger(one) && one > 0)) {
    const fix = 'give one or more whole numbers, as [10, 20]';
    throw new SopError(ExitCode.usage, { what: 'no neighbours vote', where: 'k', why: `it is [${k}]`, fix });
  }
  const options = { skipSelf: queries === null, ...(progress && { progress }) };
  const found = await nearest(gpu, queries ?? gallery, gallery, width, Math.max(...k), options);
  return { knn: classify(found, labels.gallery, labels.queries, classes, k), nearest: found };
}

/** 1 + the largest label. */
export function classCount(...labels: readonly Int32Array[]): number {
  return labels.reduce((count, list) => list.reduce((most, label) => Math.max(most, label + 1), count), 0);
}

/** With a single class every answer is right, which says nothing of the features. */
export function severalClasses(labels: Int32Array): boolean {
  return new Set(labels).size > 1;
}

/** Temperature of the vote (DINO, iBOT). */
const VOTE_TEMPERATURE = 0.07;

/**
 * Weighted k-NN classification: each of the k nearest votes for its class with exp(cos / 0.07).
 *
 * @param found the nearest gallery rows of each query
 * @param galleryLabels class index of each gallery row, [gallery]
 * @param queryLabels class index of each query, [queries]
 * @param classes number of classes, more than any index
 * @param ks numbers of voting neighbours; those above `found.k` are left out, and where that is all of them `found.k` vote
 */
export function classify(
  found: Nearest,
  galleryLabels: Int32Array,
  queryLabels: Int32Array,
  classes: number,
  ks: readonly number[],
): KnnResult {
  const usable = ks.filter((k) => k <= found.k);
  const hits = new Map((usable.length > 0 ? usable : [found.k]).map((k) => [k, { top1: 0, top5: 0 }]));
  const votes = new Float64Array(classes);
  for (let query = 0; query < queryLabels.length; query++) {
    votes.fill(0);
    for (let n = 0; n < found.k; n++) {
      const at = query * found.k + n;
      const label = galleryLabels[found.index[at]!]!;
      votes[label] = votes[label]! + Math.exp(found.score[at]! / VOTE_TEMPERATURE);
      const count = hits.get(n + 1);
      if (!count) continue;
      const place = rank(votes, queryLabels[query]!);
      if (place === 0) count.top1 += 1;
      if (place < 5) count.top5 += 1;
    }
  }
  const percent = (of: 'top1' | 'top5'): Record<string, number> =>
    Object.fromEntries([...hits].map(([k, count]) => [k, (100 * count[of]) / queryLabels.length]));
  const top1 = percent('top1');
  const bestK = [...hits.keys()].reduce((best, k) => (top1[k]! > top1[best]! ? k : best));
  return { top1, top5: percent('top5'), bestK };
}

/**
 * How many classes come before `label`: those with more votes, and lower ones with as many. A class without votes has no
 * place, however few classes there are.
 */
function rank(votes: Float64Array, label: number): number {
  const own = votes[label]!;
  if (!(own > 0)) return Number.POSITIVE_INFINITY;
  let before = 0;
  for (let c = 0; c < votes.length; c++) if (votes[c]! > own || (votes[c] === own && c < label)) before += 1;
  return before;
}

/** Standard error of an accuracy in percent over `count` queries. */
export function standardError(percent: number, count: number): number {
  const p = percent / 100;
  return 100 * Math.sqrt((p * (1 - p)) / count);
}
