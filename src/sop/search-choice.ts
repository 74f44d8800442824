import { type Config, imagesPerStep, runLength } from '../config/schema.js';
import { SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { gridSide } from '../nn/vit.js';
import { arithmeticSeconds, estimateSeconds } from '../plan/estimate.js';
import { type Plan, plan } from '../plan/plan.js';
import { si } from '../plan/report.js';
import { areChosen } from './anchors.js';
import { declareMemory, insert, type Memory } from './memory.js';
import { type Found, listCapacity } from './neighbour-lists.js';
import { prepareSearch, type TaskName, type TaskShape } from './prototypes.js';

/** How the neighbours of a memory's rows are found, and why, in one line. */
export interface SearchChoice {
  /** Whether lists are kept from step to step. */
  readonly listed: boolean;
  /** Null where there is nothing to search. */
  readonly reason: string | null;
}

/** The part of a step that searches, and that keeps lists true. */
export interface SearchPart {
  readonly graph: Graph;
  readonly memory: Memory;
  /** u32 [K] for each task: rows whose neighbours are found. */
  readonly drawn: readonly Tensor[];
  readonly found: readonly Found[];
  readonly flag: Tensor;
  /** f32 [B, d] for each batch that is inserted. */
  readonly inserted: readonly Tensor[];
  /** u32 [1]: lists that were searched anew; null without lists. */
  readonly recomputed: Tensor | null;
}

/** Traces it alone, with inputs in place of all else. `batches`: rows of each batch that goes into the memory. */
export function traceSearch(task: TaskShape, width: number, batches: readonly number[]): SearchPart {
  const graph = new Graph();
  const memory = declareMemory(graph, 'cls', task, width);
  const drawn = Array.from({ length: task.tasks }, (_, i) => graph.input(`drawn.${i}`, [task.anchors], 'u32'));
  const flag = graph.input('flag', [1], 'u32');
  const inserted = batches.map((batch, i) => graph.input(`inserted.${i}`, [batch, width]));
  const neighbours = prepareSearch(graph, memory, task, { search: 'all' }, drawn);
  const found = drawn.flatMap((rows) => neighbours?.find(rows) ?? []);
  neighbours?.keep(flag);
  for (const rows of inserted) insert(graph, flag, memory, rows);
  return { graph, memory, drawn, found, flag, inserted, recomputed: neighbours?.recomputed ?? null };
}

/**
 * Decides for one memory by `sop.neighbour_search`: `auto` by the planned cost of either way on `target` over the run.
 * `batches`: rows of each micro-batch of a step, which go into the memory one after the other.
 */
export function chooseSearch(config: Config, name: TaskName, batches: readonly number[], target: Target): SearchChoice {
  const { sop, head } = config;
  const { memory, anchors, neighbours, tasks } = sop[name];
  if (neighbours === 0) return { listed: false, reason: null };
  const inFull = (why: string): SearchChoice => ({ listed: false, reason: `in full: ${why}` });
  if (sop.neighbour_search === 'full') return inFull('sop.neighbour_search');
  if (sop.search === 'non-anchors') return inFull('lists hold rows that sop.search non-anchors leaves out');
  const drawn = areChosen(sop.anchor_selection, { neighbours }) ? 2 * anchors : anchors;
  const [full, lists] = [false, true].map((listed) => {
    const task = { memory, anchors: drawn, neighbours, tasks, listed };
    return planned(() => plan(traceSearch(task, head.out, batches).graph, target));
  });
  // What exceeds a limit is refused when the whole step is planned.
  if (!full || !lists) return inFull('lists exceed a limit of the adapter');
  const costs = `${si(flops(lists))}FLOP a step instead of ${si(flops(full))}FLOP`;
  const kept: SearchChoice = { listed: true, reason: `by lists of ${listCapacity(neighbours)}: ${costs}` };
  if (sop.neighbour_search === 'graph') return kept;
  const [before, after] = [estimateSeconds(full), estimateSeconds(lists)];
  const ms = (seconds: number): string => `${Number((1000 * seconds).toPrecision(2))} ms`;
  if ((before - after) * expectedSteps(config, target) > COMPILE_SECONDS[target.kind]) return kept;
  return inFull(`an estimated ${ms(before)} a step, with lists ${ms(after)}`);
}

/** What the kernels of lists, and the question whether they may be used, take before step 1: a run has to save more. */
const COMPILE_SECONDS = { lavapipe: 5, swiftshader: 6, gpu: 1 } as const;

/** Steps of a run, for one by time estimated; of one by epochs they are not known here, and many. */
function expectedSteps(config: Config, { kind }: Target): number {
  const { unit, value } = runLength(config);
  if (unit === 'epochs') return Number.POSITIVE_INFINITY;
  return unit === 'steps' ? value : (60 * value) / arithmeticSeconds(networkFlops(config), kind);
}

/** Products of the blocks' linear layers in a step, forward and, of the student, backward: nearly all that is not search. */
function networkFlops(config: Config): number {
  const { model, views } = config;
  const parameters = model.depth * (4 + 2 * model.mlp_ratio) * model.width ** 2;
  const tokens = (side: number): number => 1 + gridSide(side, model.patch_size) ** 2;
  const [teacher, student] = [1, 3];
  const rows =
    2 * (teacher + student) * tokens(model.image_size) + views.local_count * student * tokens(model.local_size);
  return 2 * parameters * rows * imagesPerStep(config);
}

function planned(make: () => Plan): Plan | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof SopError) return null;
    throw error;
  }
}

function flops({ costs }: Plan): number {
  return costs.reduce((sum, cost) => sum + cost.flops, 0);
}
