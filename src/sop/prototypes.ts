import type { Graph } from '../graph/graph.js';
import type { Scalar } from '../graph/op.js';
import type { Tensor } from '../graph/tensor.js';
import { selectRows } from '../ops/select_rows.js';
import { sopProbabilities } from '../ops/sop_probabilities.js';
import { support } from '../ops/support.js';
import type { Memory } from './memory.js';
import { type Found, fullSearch, listedSearch, type Search } from './neighbour-lists.js';

/** The kinds of task, each with a memory of its own: views as wholes, and masked patches. */
export const TASK_NAMES = ['cls', 'patch'] as const;
export type TaskName = (typeof TASK_NAMES)[number];

/** How the prototypes of a task are made (the paper's Section 2.2.1). */
export interface TaskShape {
  /** N, rows of the memory. */
  readonly memory: number;
  /** K, anchors sampled for a task. */
  readonly anchors: number;
  /** k, support embeddings that each anchor adds to itself. */
  readonly neighbours: number;
  /** T, independent tasks of a step. */
  readonly tasks: number;
  /** Whether each row of the memory keeps a list of its neighbours, so that few have to be searched (neighbour-lists.ts). */
  readonly listed: boolean;
}

/** How neighbours are searched and weighed, the same for all tasks. */
export interface PrototypeOptions {
  /** `soft`: an SE contributes its cosine to the anchor; `one-hot`: all alike (Table 9). */
  readonly contributions: 'soft' | 'one-hot';
  readonly smoothing: number;
  /** Whether rows drawn as anchors may become neighbours of other anchors. */
  readonly search: 'all' | 'non-anchors';
}

/** The prototypes of one task. */
export interface Prototypes {
  /** u32 [K]: rows of the memory. */
  readonly anchors: Tensor;
  /** Null where k = 0. */
  readonly neighbours: Found | null;
  /** D [K (k + 1), d]: each anchor followed by its neighbours. */
  readonly support: Tensor;
  /** s [K (k + 1)]: what each support embedding gives to its own prototype; the rest of 1 is shared by the others. */
  readonly contributions: Tensor;
  /** k + 1. */
  readonly members: number;
}

/** What a draw depends on: the same for the same seed, step and stream. */
export interface DrawKey {
  readonly seed: Scalar;
  readonly step: Scalar;
  readonly stream: number;
}

/** The search of a step; null where SOPs are anchors alone. `drawn`: all rows whose neighbours will be asked for. */
export function prepareSearch(
  graph: Graph,
  { rows, lists }: Memory,
  { neighbours: k }: TaskShape,
  { search }: Pick<PrototypeOptions, 'search'>,
  drawn: readonly Tensor[],
): Search | null {
  if (k === 0) return null;
  return lists ? listedSearch(graph, rows, lists, k, drawn) : fullSearch(graph, rows, k, search);
}

/**
 * Keeps K low-energy anchors of 2 K `candidates`, those more often whose neighbours are about equally similar. Needs k >= 2.
 * `stream` of the key tells this draw from that of the candidates.
 */
export function selectLowEnergy(
  graph: Graph,
  candidates: Tensor,
  { anchors: count }: TaskShape,
  search: Search,
  { stream, seed, step }: DrawKey,
): Tensor {
  const { score } = search.find(candidates);
  return graph.one(selectRows, [candidates, score], { count, stream, seed, step });
}

/** Searches the neighbours of the anchors, gathers D and weighs its rows: D and Y of the paper's Section 2.2.1. */
export function organize(
  graph: Graph,
  memory: Memory,
  anchors: Tensor,
  task: TaskShape,
  search: Search | null,
  { contributions, smoothing }: PrototypeOptions,
): Prototypes {
  const k = task.neighbours;
  const found = search?.find(anchors) ?? null;
  const inputs = [memory.rows, anchors, ...(found ? [found.index, found.score] : [])];
  const [rows, shares] = graph.pair(support, inputs, { contributions, smoothing });
  return { anchors, neighbours: found, support: rows, contributions: shares, members: k + 1 };
}

/** P(u) = softmax(u D^T / temperature) Y. u [R, d] -> [R, K], rows summing to 1. */
export function predict(graph: Graph, prototypes: Prototypes, embeddings: Tensor, temperature: Scalar): Tensor {
  const { support: rows, contributions, members } = prototypes;
  const [probabilities] = graph.pair(sopProbabilities, [embeddings, rows, contributions], { members, temperature });
  return probabilities;
}
