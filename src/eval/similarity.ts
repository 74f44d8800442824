import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import { matmul } from '../ops/matmul.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { Replay } from '../plan/replay.js';

/** The k most similar gallery rows of each query, most similar first; ties to the lower row. */
export interface Nearest {
  /** As asked for, cut to what the gallery has. */
  readonly k: number;
  /** [queries, k]: gallery rows; -1 where scores are no numbers. */
  readonly index: Int32Array;
  /** [queries, k], cosines. */
  readonly score: Float32Array;
}

/** Rows of one similarity block: 256 x 16384 f32 are 16 MiB. Wide rows (raw pixels of photographs) come in fewer. */
const QUERY_BLOCK = 256;
const GALLERY_BLOCK = 16384;
/** Bytes of a block of rows at most: half of the smallest binding limit. */
const BLOCK_BYTES = 64 * 2 ** 20;

/** Divides each row of `values` [rows, width] by its L2 norm; rows of zeros stay. */
export function normalizeRows(values: Float32Array, width: number): Float32Array<ArrayBuffer> {
  const result = Float32Array.from(values);
  for (let start = 0; start < result.length; start += width) {
    const row = result.subarray(start, start + width);
    const norm = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0)) || 1;
    for (let i = 0; i < width; i++) row[i]! /= norm;
  }
  return result;
}

/**
 * Exact cosine search: `queries` [q, width] against `gallery` [g, width], rows of unit norm. Products on the device, block
 * by block; selection here. `k` is cut to the gallery's size. With `skipSelf` query i leaves out gallery row i.
 * @throws SopError 69 for a limit or memory that does not suffice, 70 for a shader that does not compile, 75 for a lost device
 */
export async function nearest(
  gpu: Gpu,
  queries: Float32Array,
  gallery: Float32Array,
  width: number,
  k: number,
  options: { readonly skipSelf?: boolean; readonly progress?: (done: number) => void } = {},
): Promise<Nearest> {
  const count = queries.length / width;
  const rows = gallery.length / width;
  const kept = Math.min(k, rows - (options.skipSelf ? 1 : 0));
  const index = new Int32Array(count * kept).fill(-1);
  const score = new Float32Array(count * kept).fill(Number.NEGATIVE_INFINITY);

  const graph = new Graph();
  const fits = Math.max(1, Math.floor(BLOCK_BYTES / (4 * width)));
  const block = { q: Math.min(QUERY_BLOCK, count, fits), g: Math.min(GALLERY_BLOCK, rows, fits) };
  const a = graph.input('queries', [block.q, width]);
  const b = graph.input('gallery', [block.g, width]);
  const products = graph.one(matmul, [a, b], { transA: false, transB: true });
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [products])), [products]);
  try {
    for (let start = 0; start < rows; start += block.g) {
      const inBlock = Math.min(block.g, rows - start);
      replay.write(b, padded(gallery, start, inBlock, block.g, width));
      for (let first = 0; first < count; first += block.q) {
        const used = Math.min(block.q, count - first);
        await replay.ready();
        replay.write(a, padded(queries, first, used, block.q, width));
        const [scores] = await replay.run();
        for (let q = 0; q < used; q++) {
          const row = scores!.subarray(q * block.g, q * block.g + inBlock) as Float32Array;
          const own = options.skipSelf ? first + q - start : -1;
          const slots = {
            index: index.subarray((first + q) * kept, (first + q + 1) * kept),
            score: score.subarray((first + q) * kept, (first + q + 1) * kept),
          };
          keepBest(row, start, own, slots);
        }
        options.progress?.((start * count + inBlock * (first + used)) / rows);
      }
    }
  } finally {
    replay.destroy();
  }
  return { k: kept, index, score };
}

/** Inserts a block's scores into a query's sorted list. Rows come in rising order, so a tie goes behind what is there. */
function keepBest(
  row: Float32Array,
  firstRow: number,
  own: number,
  { index, score }: { index: Int32Array; score: Float32Array },
): void {
  const last = index.length - 1;
  for (let j = 0; j < row.length; j++) {
    const value = row[j]!;
    if (!(value > score[last]!) || j === own) continue;
    let at = last;
    while (at > 0 && value > score[at - 1]!) {
      score[at] = score[at - 1]!;
      index[at] = index[at - 1]!;
      at -= 1;
    }
    score[at] = value;
    index[at] = firstRow + j;
  }
}

function padded(
  values: Float32Array,
  firstRow: number,
  rows: number,
  blockRows: number,
  width: number,
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(blockRows * width);
  result.set(values.subarray(firstRow * width, (firstRow + rows) * width));
  return result;
}
