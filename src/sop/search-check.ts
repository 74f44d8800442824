import type { Config } from '../config/schema.js';
import type { Gpu } from '../gpu/device.js';
import { neighbours } from '../ops/neighbours.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';
import { initialMemory } from './initialize.js';
import { listCapacity } from './neighbour-lists.js';
import type { TaskShape } from './prototypes.js';
import { traceSearch } from './search-choice.js';
import { type DataShape, type TraceOptions, type Training, traceTraining } from './training.js';

/** Rows that are compared: as many as fill the tiles of every kernel, so that the same kernels run as in a step. */
const ROWS = 1024;
/** Entries that the full search finds at most. */
const MOST = 16;

/**
 * Whether similarities have the same bits from both ends of a pair and in all kernels that compute them: what lists of
 * neighbours rest on. Fills the lists of a small memory, inserts `batches`, and compares them with a full search, bit by bit.
 */
export async function similaritiesAgree(
  gpu: Gpu,
  task: TaskShape,
  width: number,
  batches: readonly number[],
): Promise<boolean> {
  const memory = Math.min(ROWS, task.memory);
  const drawn = Math.min(memory, task.tasks * task.anchors);
  const small = { ...task, memory, anchors: drawn, tasks: 1 };
  const part = traceSearch(
    small,
    width,
    batches.map((batch) => Math.min(batch, memory)),
  );
  const { graph, flag, inserted } = part;
  const { rows, pointer, lists } = part.memory;
  if (!lists) return true;
  const all = Uint32Array.from({ length: memory }, (_, row) => row);
  const k = Math.min(MOST, listCapacity(task.neighbours), memory - 1);
  const [index, score] = graph.add(neighbours, [rows, graph.constant('all', [memory], all)], { k, search: 'all' });
  if (!index || !score) throw new RangeError('neighbours has two outputs');
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [index, score])));
  try {
    replay.write(rows, initialMemory(memory, width, 0, 0));
    replay.write(pointer, Uint32Array.of(memory - 1));
    replay.write(flag, Uint32Array.of(0));
    replay.write(lists.length, new Uint32Array(memory));
    for (const [i, tensor] of inserted.entries()) {
      replay.write(tensor, initialMemory(tensor.shape[0] ?? 0, width, 0, 1 + i));
    }
    for (const tensor of part.drawn) replay.write(tensor, all.slice(0, drawn));
    await replay.run();
    const [kept, keptScore, length] = [lists.index, lists.score, lists.length].map((tensor) => replay.read(tensor));
    return sameLists(
      { index: await kept!, score: await keptScore!, length: await length! },
      { index: await replay.read(index), score: await replay.read(score) },
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
  const { shape } = training;
  const batches = [...new Set(shape.batches.map(({ images }) => images))];
  for (const task of [shape.cls, shape.patch]) {
    if (!task.listed || (await agree(gpu, task, shape.network.head.out, batches))) continue;
    const sop = { ...config.sop, neighbour_search: 'full' as const };
    const searches = ['in full: on this adapter a similarity depends on the end that it is computed from'];
    return { ...traceTraining({ ...config, sop }, data, gpu.target, rest), config, searches };
  }
  return training;
}
