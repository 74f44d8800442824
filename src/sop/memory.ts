import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { updateFifo } from '../ops/update_fifo.js';

/** A FIFO memory of embeddings (method.md section 1: E_C, E_P). */
export interface Memory {
  /** [N, d], rows of unit norm. */
  readonly rows: Tensor;
  /** u32 [1]: row that the next embedding replaces. */
  readonly pointer: Tensor;
}

export function declareMemory(graph: Graph, name: 'cls' | 'patch', size: number, width: number): Memory {
  return {
    rows: graph.state(`memory.${name}`, [size, width]),
    pointer: graph.state(`memory.${name}_pointer`, [1], 'u32'),
  };
}

/** Replaces the oldest rows by `embeddings` [B, d] and moves the pointer on, unless the step's flag is up. */
export function insert(graph: Graph, flag: Tensor, { rows, pointer }: Memory, embeddings: Tensor): void {
  graph.add(updateFifo, [flag, rows, pointer, embeddings], {});
}
