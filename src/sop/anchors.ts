import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { sampleRows } from '../ops/sample_rows.js';
import { taskStream } from '../rng.js';
import type { Memory } from './memory.js';
import type { Search } from './neighbour-lists.js';
import { prepareSearch, selectLowEnergy, type TaskName, type TaskShape } from './prototypes.js';
import type { StepScalars } from './step-inputs.js';
import type { StepShape } from './step-shape.js';

/** The anchors of all tasks, u32 [K] each, and the search that finds their neighbours. */
export function drawAnchors(
  graph: Graph,
  shape: StepShape,
  name: TaskName,
  memory: Memory,
  scalars: Pick<StepScalars, 'seed' | 'step'>,
): { readonly anchors: readonly Tensor[]; readonly search: Search | null } {
  const task = shape[name];
  const rows = Array.from({ length: task.tasks }, (_, index) => drawRows(graph, shape, name, index, scalars));
  const search = prepareSearch(graph, memory, task, shape.prototypes, rows);
  if (!search || !areChosen(shape.anchors, task)) return { anchors: rows, search };
  const { seed, step } = scalars;
  const anchors = rows.map((candidates, index) => {
    const stream = taskStream(name === 'cls' ? 'selectCls' : 'selectPatch', index);
    return selectLowEnergy(graph, candidates, task, search, { seed, step, stream });
  });
  return { anchors, search };
}

/** Whether anchors are chosen among twice as many candidates, by their neighbours: of these each needs at least two. */
export function areChosen(
  anchors: StepShape['anchors'] | 'uniform',
  { neighbours }: Pick<TaskShape, 'neighbours'>,
): boolean {
  return anchors === 'low-energy' && neighbours >= 2;
}

/** The anchors of a task, or twice as many candidates where these are yet to be chosen. */
function drawRows(
  graph: Graph,
  shape: StepShape,
  name: TaskName,
  index: number,
  scalars: Pick<StepScalars, 'seed' | 'step'>,
): Tensor {
  const task = shape[name];
  if (shape.anchors === 'given') return graph.input(`anchors.${name}.${index}`, [task.anchors], 'u32');
  const stream = taskStream(name === 'cls' ? 'anchorsCls' : 'anchorsPatch', index);
  const step = shape.anchors === 'fixed' ? graph.scalar('fixed_step', 'u32') : scalars.step;
  const count = areChosen(shape.anchors, task) ? 2 * task.anchors : task.anchors;
  return graph.one(sampleRows, [], { count, from: task.memory, stream, seed: scalars.seed, step });
}
