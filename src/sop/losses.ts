import type { Graph } from '../graph/graph.js';
import type { Scalar } from '../graph/op.js';
import type { Tensor } from '../graph/tensor.js';
import { crossEntropy } from '../ops/cross_entropy.js';
import { NO_ROW } from '../ops/gather_rows.js';
import { weightedSum } from '../ops/weighted_sum.js';
import { type Prototypes, predict } from './prototypes.js';

/** Which teacher rows a student row is compared with (up to two) and what the comparison weighs. */
export interface Pairs {
  /** u32 [R, 2], `NO_ROW` where there is no (second) partner. */
  readonly partners: Tensor;
  /** f32 [R]. */
  readonly weights: Tensor;
}

/** Predictions of a task and its loss. */
export interface TaskResult {
  readonly prototypes: Prototypes;
  /** P_s [R, K]. */
  readonly student: Tensor;
  /** P_t [R_t, K]. */
  readonly teacher: Tensor;
  /** [1]. */
  readonly loss: Tensor;
}

/** Cross-entropy of one task: - sum over pairs of weight * sum_i P_t,i log P_s,i (eq. 2 and 4). */
export function taskLoss(
  graph: Graph,
  prototypes: Prototypes,
  embeddings: { readonly student: Tensor; readonly teacher: Tensor },
  pairs: Pairs,
  temperatures: { readonly student: Scalar; readonly teacher: Scalar },
): TaskResult {
  const student = predict(graph, prototypes, embeddings.student, temperatures.student);
  const teacher = predict(graph, prototypes, embeddings.teacher, temperatures.teacher);
  const loss = graph.one(crossEntropy, [student, teacher, pairs.partners, pairs.weights], {});
  return { prototypes, student, teacher, loss };
}

/** Mean over independent tasks. */
export function meanLoss(graph: Graph, tasks: readonly TaskResult[]): Tensor {
  return graph.one(
    weightedSum,
    tasks.map(({ loss }) => loss),
    { weights: tasks.map(() => 1 / tasks.length) },
  );
}

/**
 * The pairs of the [CLS] loss: every student view with the teacher's global views other than itself, all pairs and images
 * alike. Student rows are view-major [V B], teacher rows [2 B].
 */
export function clsPairs(graph: Graph, batch: number, views: number): Pairs {
  const partners = new Uint32Array(2 * views * batch).fill(NO_ROW);
  for (let view = 0; view < views; view++) {
    for (let image = 0; image < batch; image++) {
      const others = [0, 1].filter((global) => global !== view);
      others.forEach((global, i) => {
        partners[2 * (view * batch + image) + i] = global * batch + image;
      });
    }
  }
  const pairs = 2 * views - 2;
  return {
    partners: graph.constant('cls_partners', [views * batch, 2], partners),
    weights: graph.constant('cls_weights', [views * batch], new Float32Array(views * batch).fill(1 / (pairs * batch))),
  };
}

/** Mean entropy of the rows of P [R, K] in nats: the cross-entropy of P with itself. */
export function meanEntropy(graph: Graph, probabilities: Tensor): Tensor {
  const rows = probabilities.shape[0] ?? 0;
  const partners = Uint32Array.from({ length: 2 * rows }, (_, i) => (i % 2 === 0 ? i / 2 : NO_ROW));
  const weights = new Float32Array(rows).fill(1 / rows);
  const self = [graph.constant('self', [rows, 2], partners), graph.constant('mean', [rows], weights)];
  return graph.one(crossEntropy, [probabilities, probabilities, ...self], {});
}
