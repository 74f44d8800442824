import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { layernorm } from '../ops/layernorm.js';
import { matmul } from '../ops/matmul.js';
import { get, type Parameters } from './parameters.js';

/** Epsilon of every LayerNorm (DINO, iBOT, timm's ViT). */
export const NORM_EPS = 1e-6;

/** y = x W^T + b. x [R, inputs] -> [R, outputs]. */
export function linear(graph: Graph, parameters: Parameters, name: string, x: Tensor): Tensor {
  const operands = [x, get(parameters, `${name}.weight`), get(parameters, `${name}.bias`)];
  return graph.scope(name, () => graph.one(matmul, operands, { transA: false, transB: true }));
}

/** LayerNorm over the last axis. x [R, W] -> [R, W]. */
export function norm(graph: Graph, parameters: Parameters, name: string, x: Tensor): Tensor {
  const operands = [x, get(parameters, `${name}.weight`), get(parameters, `${name}.bias`)];
  const [y] = graph.scope(name, () => graph.add(layernorm, operands, { eps: NORM_EPS }));
  if (!y) throw new RangeError('layernorm has no output');
  return y;
}
