import type { Graph } from '../graph/graph.js';
import type { Tensor } from '../graph/tensor.js';
import { type HeadShape, head, headSpecs } from '../nn/head.js';
import { declare, type ParameterSpec, type Parameters } from '../nn/parameters.js';
import { type Encoded, encode, maskedEmbedSpec, type Views, type VitShape, vitSpecs } from '../nn/vit.js';
import { gatherRows } from '../ops/gather_rows.js';
import { meanPatches } from '../ops/mean_patches.js';
import { placeSegments } from '../ops/segments.js';

/** Backbone, head, and what stands for a whole image (Table C.2). */
export interface NetworkShape {
  readonly vit: VitShape;
  readonly head: HeadShape;
  readonly globalFeature: 'cls' | 'avg-patch';
}

/** Parameters of the teacher: backbone, then head. The student has `masked_embed` after them, so that the packs line up. */
export function teacherSpecs({ vit, head }: NetworkShape): ParameterSpec[] {
  return [...vitSpecs(vit), ...headSpecs(vit.width, head, vit.initStd)];
}

export function studentSpecs(shape: NetworkShape): ParameterSpec[] {
  return [...teacherSpecs(shape), maskedEmbedSpec(shape.vit)];
}

/** Student f and teacher g: the same architecture, one trained, one following it. */
export function declareNetworks(graph: Graph, shape: NetworkShape): { student: Parameters; teacher: Parameters } {
  return {
    student: declare(graph, 'student', studentSpecs(shape), 'parameter'),
    teacher: declare(graph, 'teacher', teacherSpecs(shape), 'state'),
  };
}

/** What a network says of its views. */
export interface Embeddings {
  /** [sequences, d]: one embedding a view, view-major. */
  readonly cls: Tensor;
  /** [rows asked for, d]. */
  readonly patch: Tensor;
}

/** Backbone and head. `patchRows` u32 [n]: token rows of the patches that reach the head; nobody needs the others. */
export function embed(
  graph: Graph,
  shape: NetworkShape,
  parameters: Parameters,
  views: Views,
  patchRows: Tensor,
): Embeddings {
  const encoded = encode(graph, shape.vit, parameters, views);
  return graph.scope('head', () => ({
    cls: head(graph, shape.head, parameters, globalFeature(graph, shape, encoded)),
    patch: head(graph, shape.head, parameters, graph.one(gatherRows, [encoded.tokens, patchRows], {})),
  }));
}

/** Feature of each sequence before the head, [sequences, W]: its [CLS] token or the mean of its patch tokens. */
export function globalFeature(
  graph: Graph,
  { globalFeature: kind }: Pick<NetworkShape, 'globalFeature'>,
  { tokens, segments }: Encoded,
): Tensor {
  if (kind === 'avg-patch') return graph.one(meanPatches, [tokens], { segments });
  const rows = placeSegments(segments).flatMap(({ count, length, firstRow }) =>
    Array.from({ length: count }, (_, sequence) => firstRow + sequence * length),
  );
  return graph.one(gatherRows, [tokens, graph.constant('cls_rows', [rows.length], Uint32Array.from(rows))], {});
}
