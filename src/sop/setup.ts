import type { Config } from '../config/schema.js';
import type { Target } from '../gpu/target.js';
import { elements, type RealType } from '../graph/tensor.js';
import { gridSide } from '../nn/vit.js';
import { BindingError, bindingLimit } from '../plan/binding-limit.js';
import { maxMasked } from './masks.js';
import { type NetworkShape, studentSpecs } from './networks.js';
import type { TaskName } from './prototypes.js';
import type { SearchChoice } from './search-choice.js';
import type { BatchShape, StepShape } from './step-shape.js';

/** Sizes of the networks that a configuration describes, for images of 1 or 3 `channels`. Sides in pixels. */
export function networkShape({ model, head }: Config, channels: number): NetworkShape {
  return {
    vit: {
      width: model.width,
      depth: model.depth,
      heads: model.heads,
      mlpRatio: model.mlp_ratio,
      patch: model.patch_size,
      channels,
      imageSize: model.image_size,
      initStd: model.init_std,
    },
    head,
    globalFeature: model.global_feature,
  };
}

/** How a step that is to compute in `precision` does so on `target`: f16 needs shader-f16. */
export function precisionOn({ f16 }: Pick<Target, 'f16'>, precision: RealType): RealType {
  return f16 ? precision : 'f32';
}

/** What to tell those who asked for f16 and get f32. */
export const noHalf = ({ name }: Pick<Target, 'name'>): string =>
  `computed in f32, not in f16: ${name} has no shader-f16`;

/**
 * Images of each micro-batch of a step: each of its `optim.accumulate` batches goes through the networks in `parts`, as equal
 * as they can be.
 */
export function microBatchSizes({ train, optim }: Config, parts: number): number[] {
  return Array.from({ length: optim.accumulate }, () => evenParts(train.batch_size, parts)).flat();
}

/**
 * Everything that is fixed about a training step under a configuration.
 *
 * @param sizes images of each micro-batch
 * @param search how the neighbours of each memory are found
 */
export function stepShape(
  config: Config,
  channels: number,
  target: Target,
  sizes: readonly number[],
  search: Readonly<Record<TaskName, SearchChoice>>,
): StepShape {
  const { sop, loss, optim, train, model } = config;
  const [first, ...others] = sizes.map((images) => batchShape(config, images));
  if (!first) throw new RangeError('a step has at least one batch');
  const network = networkShape(config, channels);
  return {
    network,
    batches: [first, ...others],
    prototypes: { contributions: sop.contributions, smoothing: sop.smoothing, search: sop.search },
    cls: { ...sop.cls, listed: search.cls.listed },
    patch: { ...sop.patch, listed: search.patch.listed },
    clsWeight: loss.cls_weight,
    patchWeight: loss.patch_weight,
    dropPath: model.drop_path > 0,
    recompute: train.checkpoint_blocks,
    precision: precisionOn(target, train.precision),
    clip: optim.clip,
    anchors: anchorSource(config),
    maxElements: packLimit(network, target),
  };
}

/**
 * Elements that a flat buffer of parameters holds at most.
 *
 * @throws BindingError (69) for a parameter that alone has more
 */
export function packLimit(network: NetworkShape, target: Target): number {
  const limit = bindingLimit(target);
  for (const { name, shape } of studentSpecs(network)) {
    const bytes = 4 * elements({ shape });
    if (bytes > limit)
      throw new BindingError({ label: `student.${name}`, bytes, shape, divisible: false }, limit, target);
  }
  return Math.floor(limit / 4);
}

function batchShape({ model, mask }: Config, images: number): BatchShape {
  const side = gridSide(model.image_size, model.patch_size);
  const most = maxMasked({ ratio: mask.ratio, ratioVar: mask.ratio_var }, [side, side]);
  const maskedPatches = Math.max(1, 2 * images * most);
  return { images, maskedPatches, teacherPatches: maskedPatches + images };
}

/** `total` as a sum of `parts` whole numbers that differ by at most 1, larger ones first. */
function evenParts(total: number, parts: number): number[] {
  return Array.from({ length: parts }, (_, i) => Math.floor(total / parts) + (i < total % parts ? 1 : 0));
}

function anchorSource({ sop }: Config): StepShape['anchors'] {
  return sop.anchor_selection === 'uniform' ? 'sampled' : sop.anchor_selection;
}

/** Rate of stochastic depth of each block: linear from 0 to `rate`, rate i / (depth - 1). */
export function dropPathRates(rate: number, depth: number): number[] {
  return Array.from({ length: depth }, (_, i) => (depth > 1 ? (rate * i) / (depth - 1) : 0));
}
