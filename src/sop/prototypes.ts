import type { Graph } from '../graph/graph.js';
import type { Scalar } from '../graph/op.js';
import type { Tensor } from '../graph/tensor.js';
import { neighbours } from '../ops/neighbours.js';
import { sampleRows } from '../ops/sample_rows.js';
import { selectRows } from '../ops/select_rows.js';
import { sopProbabilities } from '../ops/sop_probabilities.js';
import { support } from '../ops/support.js';
import type { Memory } from './memory.js';

/** How the prototypes of a task are made (method.md section 3). */
export interface TaskShape {
  /** N, rows of the memory. */
  readonly memory: number;
  /** K, anchors sampled for a task. */
  readonly anchors: number;
  /** k, support embeddings that each anchor adds to itself. */
  readonly neighbours: number;
  /** T, independent tasks of a step. */
  readonly tasks: number;
}

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
  /** u32 [K, k] and f32 [K, k], most similar first; null where k = 0. */
  readonly neighbours: { readonly index: Tensor; readonly score: Tensor } | null;
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

/** Draws the anchors of a task: K different rows of its memory, all alike. */
export function sample(graph: Graph, task: TaskShape, { stream, seed, step }: DrawKey): Tensor {
  return graph.one(sampleRows, [], { count: task.anchors, from: task.memory, stream, seed, step });
}

/**
 * Draws low-energy anchors: of 2 K different rows K are kept, those more often whose neighbours are about equally similar.
 * Needs k >= 2 and 2 K <= N. `selectStream` tells the second draw from the first.
 */
export function sampleLowEnergy(
  graph: Graph,
  memory: Memory,
  task: TaskShape,
  { search }: Pick<PrototypeOptions, 'search'>,
  key: DrawKey,
  selectStream: number,
): Tensor {
  const candidates = sample(graph, { ...task, anchors: 2 * task.anchors }, key);
  const [, score] = graph.add(neighbours, [memory.rows, candidates], { k: task.neighbours, search });
  if (!score) throw new RangeError('neighbours has two outputs');
  const { seed, step } = key;
  return graph.one(selectRows, [candidates, score], { count: task.anchors, stream: selectStream, seed, step });
}

/** Search, gather and contribute: steps 2 to 4 of section 3. */
export function organize(
  graph: Graph,
  memory: Memory,
  anchors: Tensor,
  task: TaskShape,
  options: PrototypeOptions,
): Prototypes {
  const { contributions, smoothing, search } = options;
  const k = task.neighbours;
  const [index, score] = k > 0 ? graph.add(neighbours, [memory.rows, anchors], { k, search }) : [];
  const found = index && score ? { index, score } : null;
  const inputs = [memory.rows, anchors, ...(found ? [found.index, found.score] : [])];
  const [rows, shares] = graph.add(support, inputs, { contributions, smoothing });
  if (!rows || !shares) throw new RangeError('support has two outputs');
  return { anchors, neighbours: found, support: rows, contributions: shares, members: k + 1 };
}

/** P(u) = softmax(u D^T / temperature) Y (step 5). u [R, d] -> [R, K], rows summing to 1. */
export function predict(graph: Graph, prototypes: Prototypes, embeddings: Tensor, temperature: Scalar): Tensor {
  const { support: rows, contributions, members } = prototypes;
  const [probabilities] = graph.add(sopProbabilities, [embeddings, rows, contributions], { members, temperature });
  if (!probabilities) throw new RangeError('sop_probabilities has no output');
  return probabilities;
}
