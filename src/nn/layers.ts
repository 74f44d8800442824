import type { Graph } from '../graph/graph.js';
import { realType, type Tensor } from '../graph/tensor.js';
import { layernorm } from '../ops/layernorm.js';
import { matmul } from '../ops/matmul.js';
import { get, type Parameters } from './parameters.js';

/** Epsilon of every LayerNorm (DINO, iBOT, timm's ViT). */
export const NORM_EPS = 1e-6;

/** y = x W^T + b. x [R, inputs] -> [R, outputs]; x and W, and so y, are stored alike. */
export function linear(graph: Graph, parameters: Parameters, name: string, x: Tensor): Tensor {
  const operands = [x, get(parameters, `${name}.weight`), get(parameters, `${name}.bias`)];
  return graph.scope(name, () => graph.one(matmul, operands, { transA: false, transB: true }));
}

/** LayerNorm over the last axis. x [R, W] -> [R, W], stored as `dtype`, as x where that is not said. */
export function norm(graph: Graph, parameters: Parameters, name: string, x: Tensor, dtype = realType(x)): Tensor {
  const operands = [x, get(parameters, `${name}.weight`), get(parameters, `${name}.bias`)];
  const other = dtype === realType(x) ? {} : { dtype };
  const [y] = graph.scope(name, () => graph.pair(layernorm, operands, { eps: NORM_EPS, ...other }));
  return y;
}
