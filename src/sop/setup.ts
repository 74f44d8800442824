import type { Config } from '../config/schema.js';
import type { Target } from '../gpu/target.js';
import { gridSide } from '../nn/vit.js';
import { maxMasked } from './masks.js';
import type { NetworkShape } from './networks.js';
import type { TaskShape } from './prototypes.js';
import type { StepShape } from './train-step.js';

/** Sizes of the networks that a configuration describes, for images of `channels`. */
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

/** Everything that is fixed about a training step under a configuration. */
export function stepShape(config: Config, channels: number, target: Target): StepShape {
  const { model, mask, sop, loss, optim, train } = config;
  const side = gridSide(model.image_size, model.patch_size);
  const batch = train.batch_size;
  const maskedPatches = Math.max(
    1,
    2 * batch * maxMasked({ ratio: mask.ratio, ratioVar: mask.ratio_var }, [side, side]),
  );
  return {
    network: networkShape(config, channels),
    batch,
    maskedPatches,
    teacherPatches: maskedPatches + batch,
    prototypes: { contributions: sop.contributions, smoothing: sop.smoothing, search: sop.search },
    cls: taskShape(sop.cls),
    patch: taskShape(sop.patch),
    clsWeight: loss.cls_weight,
    patchWeight: loss.patch_weight,
    dropPath: model.drop_path > 0,
    recompute: train.checkpoint_blocks,
    clip: optim.clip,
    anchors: anchorSource(config),
    maxElements: Math.floor(Math.min(target.maxBindingBytes, target.maxBufferBytes) / 4),
  };
}

function taskShape({ memory, anchors, neighbours, tasks }: Config['sop']['cls']): TaskShape {
  return { memory, anchors, neighbours, tasks };
}

function anchorSource({ sop }: Config): StepShape['anchors'] {
  return sop.anchor_selection === 'uniform' ? 'sampled' : sop.anchor_selection;
}

/** Rate of stochastic depth of each block: linear from 0 to `rate`, i / (depth - 1) (method.md section 2). */
export function dropPathRates(rate: number, depth: number): number[] {
  return Array.from({ length: depth }, (_, i) => (depth > 1 ? (rate * i) / (depth - 1) : 0));
}
