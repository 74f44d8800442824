import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { updateFifo } from '../ops/update_fifo.js';
import { declareLists, type NeighbourLists, updateLists } from './neighbour-lists.js';
import type { TaskName, TaskShape } from './prototypes.js';

/** A FIFO memory of embeddings (E_C and E_P of the paper, Section 2 and Appendix A). */
export interface Memory {
  /** [N, d], rows of unit norm. */
  readonly rows: Tensor;
  /** u32 [1]: row that the next embedding replaces. */
  readonly pointer: Tensor;
  /** The nearest rows of each row, kept from step to step; null where they are searched in full at each step. */
  readonly lists: NeighbourLists | null;
}

/** The memory of a kind of task, for embeddings of `width`. */
export function declareMemory(graph: Graph, name: TaskName, task: TaskShape, width: number): Memory {
  const { memory: size, neighbours, listed } = task;
  return {
    rows: graph.state(`memory.${name}`, [size, width]),
    pointer: graph.state(`memory.${name}_pointer`, [1], 'u32'),
    lists: listed ? declareLists(graph, name, size, neighbours) : null,
  };
}

/** Replaces the oldest rows by `embeddings` [B, d] and moves the pointer on, unless the step's flag is up. */
export function insert(graph: Graph, flag: Tensor, memory: Memory, embeddings: Tensor): void {
  const { rows, pointer, lists } = memory;
  graph.add(updateFifo, [flag, rows, pointer, embeddings], {});
  if (lists) updateLists(graph, flag, memory, lists, embeddings.shape[0] ?? 0);
}
