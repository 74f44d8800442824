import {
  crossEntropyBackwardKernel,
  crossEntropyTermsKernel,
  crossEntropyTotalKernel,
} from '../../shaders/cross_entropy.wgsl.js';
import { byFour } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import { defineOp, input, misfit, type NoAttributes, output, scratch } from '../graph/op.js';
import { elements, f32, type Spec, sameShape } from '../graph/tensor.js';
import { lanes } from './lanes.js';

/** [R, K, R_t] of the inputs. @throws GraphError where they disagree */
function sizes([student, teacher, partners, weights]: readonly Spec[]): readonly [number, number, number] {
  const [rows = 0, width = 0] = student?.shape ?? [];
  const fits =
    student?.shape.length === 2 &&
    teacher?.shape.length === 2 &&
    teacher.shape[1] === width &&
    sameShape(partners?.shape, [rows, 2]) &&
    sameShape(weights?.shape, [rows]);
  if (!fits) {
    const given = { student, teacher, partners, weights };
    throw misfit('cross_entropy', given, '[R, K], [Rt, K], [R, 2], [R]');
  }
  return [rows, width, teacher.shape[0] ?? 0];
}

/**
 * Cross-entropy of teacher and student distributions over chosen pairs of rows (the paper's equations 2 and 4): minus
 * sum_r weights[r] sum_{b in partners[r]} sum_i Pt[b, i] log Ps[r, i].
 * Inputs: student [R, K], teacher [Rt, K], partners u32 [R, 2] (`NO_ROW`: none), weights [R]. Output: loss [1].
 * A row of weight 0 contributes exactly 0; a NaN or infinity in any other row makes the loss NaN. Probabilities below the
 * smallest normal number count as that number. The derivative is the student's alone.
 */
export const crossEntropy = defineOp<NoAttributes>({
  name: 'cross_entropy',
  words: (i) => i === 2,
  infer(inputs) {
    sizes(inputs);
    return [f32(1)];
  },
  scratch: ({ inputs }) => [f32(sizes(inputs)[0])],
  launches({ inputs, target }) {
    const [rows, columns] = sizes(inputs);
    const { vec4, width } = byFour(columns);
    return [
      {
        kernel: crossEntropyTermsKernel({ vec4, lanes: lanes(target) }),
        bindings: { student: input(0), teacher: input(1), partners: input(2), weights: input(3), sums: scratch(0) },
        params: { rows, width },
        workgroups: grid(rows, 1),
      },
      {
        kernel: crossEntropyTotalKernel(),
        bindings: { sums: scratch(0), loss: output(0) },
        params: { count: rows },
        workgroups: [1, 1, 1],
      },
    ];
  },
  derivative(graph, node, [dloss], [needsStudent]) {
    if (!dloss || !needsStudent) return [null, null, null, null];
    return [graph.one(crossEntropyBackward, [...node.inputs, dloss], {}), null, null, null];
  },
  cost: ([student]) => ({ flops: 5 * elements(student) }),
});

/** dstudent of `cross_entropy`. Inputs: its own, dloss [1]. Output: gradient of the student's rows [R, K]. */
export const crossEntropyBackward = defineOp<NoAttributes>({
  name: 'cross_entropy_backward',
  words: (i) => i === 2,
  infer(inputs) {
    const [rows, width] = sizes(inputs);
    return [f32(rows, width)];
  },
  launches({ inputs, target }) {
    const [rows, columns] = sizes(inputs);
    const { vec4, width } = byFour(columns);
    return [
      {
        kernel: crossEntropyBackwardKernel({ vec4, lanes: lanes(target) }),
        bindings: {
          student: input(0),
          teacher: input(1),
          partners: input(2),
          weights: input(3),
          dloss: input(4),
          dstudent: output(0),
        },
        params: { rows, width },
        workgroups: grid(rows, 1),
      },
    ];
  },
  cost: ([student]) => ({ flops: 4 * elements(student) }),
});
