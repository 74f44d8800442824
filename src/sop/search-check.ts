import type { Config } from '../config/schema.js';
import type { Gpu } from '../gpu/device.js';
import { Graph, type Node } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { MAX_NEIGHBOURS, neighbours } from '../ops/neighbours.js';
import { staleNeighbours } from '../ops/stale_neighbours.js';
import { comparedTogether, updateNeighboursInsert } from '../ops/update_neighbours.js';
import { compile } from '../plan/compile.js';
import { type Plan, plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';
import { callKey, withVariant } from '../plan/variants.js';
import { initialMemory } from './initialize.js';
import { declareMemory, insert, type Memory } from './memory.js';
import { listCapacity, listedSearch, type NeighbourLists } from './neighbour-lists.js';
import { type DataShape, type TraceOptions, type Training, traceTraining } from './training.js';

/** Rows that are compared: as many as fill the tiles of every kernel. */
const ROWS = 1024;

/** A small memory with lists, and what becomes of it. */
export interface SearchCheck {
  readonly plan: Plan;
  readonly memory: Memory & { readonly lists: NeighbourLists };
  readonly flag: Tensor;
  /** All rows, whose lists are searched anew before anything else. */
  readonly drawn: Tensor;
  /** f32 [B, d] for each batch that is then inserted. */
  readonly inserted: readonly Tensor[];
  /** A full search after it. */
  readonly full: { readonly index: Tensor; readonly score: Tensor };
}

/**
 * What a step does with a memory and its lists, on at most `ROWS` rows: the same ops, planned so that they run the kernels of
 * the step, whose tiles follow from its sizes or were tuned for them. Null for a memory without lists.
 */
export function planCheck(step: Plan, { rows, lists }: Memory): SearchCheck | null {
  const { target } = step;
  const [size = 0, width = 0] = rows.shape;
  const [stale, ...inserts] = searches(step, rows);
  if (!lists || !stale) return null;
  const count = Math.min(ROWS, size);
  const k = Number(stale.attrs['k']);
  const graph = new Graph();
  const memory = declareMemory(
    graph,
    'cls',
    { memory: count, anchors: count, neighbours: k, tasks: 1, listed: true },
    width,
  );
  if (!memory.lists) throw new RangeError('a memory has no lists');
  const flag = graph.input('flag', [1], 'u32');
  const drawn = graph.input('drawn', [count], 'u32');
  const search = listedSearch(
    graph,
    memory.rows,
    memory.lists,
    k,
    [drawn],
    Math.min(count, Number(stale.attrs['expected'])),
  );
  search.find(drawn);
  search.keep(flag);
  const inserted = inserts.map(({ attrs }, i) => {
    const batch = graph.input(`inserted.${i}`, [
      Math.min(count, comparedTogether(size, Number(attrs['batch']))),
      width,
    ]);
    insert(graph, flag, memory, batch);
    return batch;
  });
  const all = graph.constant('all', [count], firstRows(count));
  const found = { k: Math.min(MAX_NEIGHBOURS, listCapacity(k), count - 1), search: 'all' } as const;
  const [index, score] = graph.pair(neighbours, [memory.rows, all], found);
  const variants = [stale, ...inserts].map((node) => withVariant(node.op, { ...node, target }).variant);
  const tuned = new Map(
    graph.nodes.filter(isSearch).map((node, i) => [callKey(node.op, { ...node, target }), variants[i] ?? '']),
  );
  const planned = plan(graph, { ...target, tuned }, [index, score]);
  return { plan: planned, memory: { ...memory, lists: memory.lists }, flag, drawn, inserted, full: { index, score } };
}

const isSearch = ({ op }: Node): boolean => op.name === staleNeighbours.name || op.name === updateNeighboursInsert.name;

/** Nodes of a step that compute similarities for the lists of a memory, each different call once. */
function searches({ graph, target }: Plan, memory: Tensor): Node[] {
  const nodes = graph.nodes.filter((node) => isSearch(node) && node.inputs.includes(memory));
  return [...new Map(nodes.map((node) => [callKey(node.op, { ...node, target }), node])).values()];
}

const firstRows = (count: number): Uint32Array<ArrayBuffer> => Uint32Array.from({ length: count }, (_, row) => row);

/**
 * Whether similarities have the same bits from both ends of a pair and in all kernels of a step that compute them for a
 * memory: what its lists of neighbours rest on. Fills the lists of a small memory, inserts batches, and compares them with a
 * full search, bit by bit.
 */
export async function similaritiesAgree(gpu: Gpu, step: Plan, of: Memory): Promise<boolean> {
  const check = planCheck(step, of);
  if (!check) return true;
  const { memory, flag, drawn, inserted, full } = check;
  const { rows, pointer, lists } = memory;
  const [count = 0, width = 0] = rows.shape;
  const replay = new Replay(await compile(gpu, check.plan));
  try {
    replay.write(rows, initialMemory(count, width, 0, 0));
    replay.write(pointer, Uint32Array.of(count - 1));
    replay.write(flag, Uint32Array.of(0));
    replay.write(lists.length, new Uint32Array(count));
    replay.write(drawn, firstRows(count));
    for (const [i, tensor] of inserted.entries())
      replay.write(tensor, initialMemory(tensor.shape[0] ?? 0, width, 0, 1 + i));
    await replay.run();
    const [index, score, length] = [lists.index, lists.score, lists.length].map((tensor) => replay.read(tensor));
    return sameLists(
      { index: await index!, score: await score!, length: await length! },
      { index: await replay.read(full.index), score: await replay.read(full.score) },
    );
  } finally {
    replay.destroy();
  }
}

/** Whether lists [N, m] and a search [N, k] agree as far as both reach: the same rows, the same bits of their scores. */
export function sameLists(
  lists: Readonly<Record<'index' | 'score' | 'length', Elements>>,
  found: Readonly<Record<'index' | 'score', Elements>>,
): boolean {
  const rows = lists.length.length;
  const [m, k] = [lists.index.length / rows, found.index.length / rows];
  const [bits, foundBits] = [lists.score, found.score].map(({ buffer }) => new Uint32Array(buffer));
  return lists.length.every((length, row) =>
    Array.from({ length: Math.min(length, k) }, (_, j) => j).every(
      (j) => lists.index[row * m + j] === found.index[row * k + j] && bits?.[row * m + j] === foundBits?.[row * k + j],
    ),
  );
}

/**
 * Traces and plans a training for a device: as `traceTraining`, and where that keeps lists of neighbours the device is asked
 * whether it may.
 * @throws what `traceTraining` and `compile` throw
 */
export async function traceOnDevice(
  gpu: Gpu,
  config: Config,
  data: DataShape,
  options: TraceOptions & { readonly agree?: typeof similaritiesAgree } = {},
): Promise<Training> {
  const { agree = similaritiesAgree, ...rest } = options;
  const training = traceTraining(config, data, gpu.target, rest);
  const { memory } = training.step;
  for (const each of [memory.cls, memory.patch]) {
    if (!each.lists || (await agree(gpu, training.plan, each))) continue;
    const sop = { ...config.sop, neighbour_search: 'full' as const };
    const searches = ['in full: on this adapter a similarity depends on the end that it is computed from'];
    return { ...traceTraining({ ...config, sop }, data, gpu.target, rest), config, searches };
  }
  return training;
}
