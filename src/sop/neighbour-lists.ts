import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { listedNeighbours } from '../ops/listed_neighbours.js';
import { neighbours } from '../ops/neighbours.js';
import { staleNeighbours } from '../ops/stale_neighbours.js';
import { updateNeighboursFill, updateNeighboursInsert } from '../ops/update_neighbours.js';

/**
 * The exact neighbour graph of a FIFO memory. Rows never change until they are replaced, so similarities among stored rows
 * never change either: each row keeps a list of its most similar rows from step to step.
 *
 * Invariant: list i is the exact top of the memory without row i, as far as it reaches, under the order (similarity down, row
 * up). It is cut off at twice as many entries as a search returns. Replaced rows leave it, new ones enter where they come
 * before its old last entry, so it shrinks; when its row is drawn as an anchor and fewer than k entries are left, it is
 * searched anew. At the start all lists are empty, that is unknown.
 *
 * The neighbours are those of the full search provided that a similarity has the same bits from both ends and in all kernels;
 * search-check.ts asks the device.
 */
export interface NeighbourLists {
  /** u32 and f32 [N, m]: most similar rows first. */
  readonly index: Tensor;
  readonly score: Tensor;
  /** u32 [N]: entries that are known. */
  readonly length: Tensor;
}

/** m: entries of a list. Fewer would be used up sooner (m = k + 1: 10 % of the drawn lists, m = 2 k: 2 %), more cost memory. */
export function listCapacity(k: number): number {
  return 2 * k;
}

/** Share of the drawn rows whose lists are expected to be too short: 1.4 to 2.9 % in a simulation with m = 2 k. */
const EXPECTED = 1 / 32;

export function declareLists(graph: Graph, memory: string, rows: number, k: number): NeighbourLists {
  const capacity = listCapacity(k);
  return {
    index: graph.state(`memory.${memory}_lists`, [rows, capacity], 'u32'),
    score: graph.state(`memory.${memory}_list_scores`, [rows, capacity]),
    length: graph.state(`memory.${memory}_list_lengths`, [rows], 'u32'),
  };
}

/** Whether a tensor of a checkpoint belongs to lists of neighbours. */
export function isListName(name: string): boolean {
  return /^memory\.\w+_list(s|_scores|_lengths)$/.test(name);
}

/** Neighbours of K rows: u32 [K, k] and f32 [K, k], most similar first. */
export interface Found {
  readonly index: Tensor;
  readonly score: Tensor;
}

/** How the neighbours of rows of a memory are found within a step. */
export interface Search {
  /** `rows` u32 [K], different rows; where there are lists, of those that were drawn. */
  find(rows: Tensor): Found;
  /** u32 [1]: lists that were searched anew; null where there are none. */
  readonly recomputed: Tensor | null;
  /** Stores what was searched anew, unless the flag is up. To be called before the memory changes. */
  keep(flag: Tensor): void;
}

/** Compares each row anew with the whole memory [N, d]; with `non-anchors` rows of the same call are not found. */
export function fullSearch(graph: Graph, memory: Tensor, k: number, search: 'all' | 'non-anchors'): Search {
  return {
    find(rows) {
      const [index, score] = graph.pair(neighbours, [memory, rows], { k, search });
      return { index, score };
    },
    recomputed: null,
    keep() {},
  };
}

/**
 * Looks the neighbours up. `drawn`: u32 [K] for each task, all rows of this step that `find` may be asked for; `expected`:
 * how many of them are likely to be searched anew.
 */
export function listedSearch(
  graph: Graph,
  memory: Tensor,
  lists: NeighbourLists,
  k: number,
  drawn: readonly Tensor[],
  expected = expectedStale(memory, drawn),
): Search {
  const attrs = { k, capacity: listCapacity(k), expected };
  const [rows, total, slot, freshIndex, freshScore] = graph.add(
    staleNeighbours,
    [memory, lists.length, ...drawn],
    attrs,
  );
  if (!rows || !total || !slot || !freshIndex || !freshScore) throw new RangeError('stale_neighbours has five outputs');
  return {
    find(anchors) {
      const known = [slot, freshIndex, freshScore, lists.index, lists.score];
      const [index, score] = graph.pair(listedNeighbours, [anchors, ...known], { k });
      return { index, score };
    },
    recomputed: total,
    keep(flag) {
      graph.add(updateNeighboursFill, [flag, rows, freshIndex, freshScore, lists.index, lists.score, lists.length], {});
    },
  };
}

/** Of rows that are drawn, several times perhaps. */
function expectedStale({ shape: [rows = 0] }: Tensor, drawn: readonly Tensor[]): number {
  const count = drawn.reduce((sum, { shape: [some = 0] }) => sum + some, 0);
  return Math.ceil(EXPECTED * Math.min(rows, count));
}

/** To be called after `batch` rows went into the memory. */
export function updateLists(
  graph: Graph,
  flag: Tensor,
  memory: { readonly rows: Tensor; readonly pointer: Tensor },
  { index, score, length }: NeighbourLists,
  batch: number,
): void {
  graph.add(updateNeighboursInsert, [flag, memory.rows, memory.pointer, index, score, length], { batch });
}
