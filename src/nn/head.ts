import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { gelu } from '../ops/gelu.js';
import { l2Normalize } from '../ops/l2_normalize.js';
import { linear } from './layers.js';
import { type InitStd, linearSpecs, type ParameterSpec, type Parameters } from './parameters.js';

/** Sizes of the projection head: `layers` linear layers with GELU between them. */
export interface HeadShape {
  readonly hidden: number;
  readonly layers: number;
  readonly out: number;
}

/** Norms below this are divided by it (iBOT's head). */
const NORMALIZE_EPS = 1e-6;

/** Parameters `head.mlp.{0,2,4}.{weight,bias}`: DINO's names, where odd numbers are the GELUs. */
export function headSpecs(width: number, { hidden, layers, out }: HeadShape, initStd: InitStd): ParameterSpec[] {
  return Array.from({ length: layers }, (_, i) =>
    linearSpecs(`head.mlp.${2 * i}`, i === 0 ? width : hidden, i === layers - 1 ? out : hidden, initStd),
  ).flat();
}

/** Projection head: x [R, W] -> embeddings [R, d] of unit norm. One head serves [CLS] and patch tokens. */
export function head(graph: Graph, { layers }: HeadShape, parameters: Parameters, x: Tensor): Tensor {
  let hidden = x;
  for (let i = 0; i < layers; i++) {
    hidden = linear(graph, parameters, `head.mlp.${2 * i}`, hidden);
    if (i < layers - 1) hidden = graph.one(gelu, [hidden], {});
  }
  const [embeddings] = graph.pair(l2Normalize, [hidden], { eps: NORMALIZE_EPS });
  return embeddings;
}
