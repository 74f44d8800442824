import { type Config, imagesPerStep } from '../config/schema.js';
import { toRgba } from '../eval/preprocess.js';
import type { Feed } from '../sop/feed.js';
import type { Trainer } from '../sop/trainer.js';

/** What a person wants to see of a step, read back from the tensors that a watched training keeps. */

/** A view as the student gets it. */
export interface ViewPicture {
  readonly kind: 'global' | 'local';
  /** Side, pixels. */
  readonly size: number;
  /** RGBA, normalisation undone. */
  readonly pixels: Uint8ClampedArray<ArrayBuffer>;
  /** 1 where a patch is hidden from the student, [patches]; null for local views, which are never masked. */
  readonly mask: Uint8Array | null;
}

/** Images of a step and what the student got of them. */
export interface BatchPictures {
  /** The step, counted from 1. */
  readonly step: number;
  /** Patches along a side of a global view. */
  readonly grid: number;
  readonly images: readonly { readonly index: number; readonly views: readonly ViewPicture[] }[];
}

/** An embedding of the memory and the image that it came from. */
export interface Member {
  /** Row of the memory. */
  readonly row: number;
  /** Image of the training set; null for a row that still holds the random start. */
  readonly image: number | null;
  /** What it gives to its own prototype, in [1 / K, 1]; the rest of 1 is shared by all others. */
  readonly contribution: number;
}

/** A self-organizing prototype: an anchor drawn from the memory and its nearest neighbours there. */
export interface PrototypePicture {
  readonly anchor: Member;
  /** Most similar first. */
  readonly support: readonly Member[];
}

/** @param step steps before the one that is looked at */
export async function batchPictures(trainer: Trainer, feed: Feed, step: number, count: number): Promise<BatchPictures> {
  const { training } = trainer;
  const { shape, data } = training;
  const made = training.images[0];
  const masks = training.step.batches[0].inputs.mask;
  if (!made || step < 0) return { step: 0, grid: 0, images: [] };
  const indices = feed.imagesOf(step);
  const batch = shape.batches[0]?.images ?? 0;
  const shown = Math.min(count, batch);
  const patches = masks.shape[1] ?? 0;
  const mask = Uint8Array.from(await trainer.read(masks));
  const images = Array.from({ length: shown }, (_, i) => ({ index: indices[i] ?? 0, views: [] as ViewPicture[] }));
  for (const [kind, tensor] of [
    ['global', made[0]],
    ['local', made[1]],
  ] as const) {
    if (!tensor) continue;
    const [rows = 0, channels = 0, size = 0] = tensor.shape;
    const values = (await trainer.read(tensor)) as Float32Array;
    const area = channels * size * size;
    for (let view = 0; view < rows / batch; view++) {
      images.forEach(({ views }, i) => {
        const row = view * batch + i; // view-major
        views.push({
          kind,
          size,
          pixels: toRgba(values.subarray(row * area, (row + 1) * area), data),
          mask: kind === 'global' ? mask.subarray(row * patches, (row + 1) * patches) : null,
        });
      });
    }
  }
  return { step: step + 1, grid: Math.round(Math.sqrt(patches)), images };
}

/** @param step steps before the one that is looked at */
export async function prototypePictures(
  trainer: Trainer,
  feed: Feed,
  step: number,
  count: number,
): Promise<PrototypePicture[]> {
  const { training } = trainer;
  const prototypes = training.step.batches[0].cls[0]?.prototypes;
  if (!prototypes || step < 0) return [];
  const anchors = await trainer.read(prototypes.anchors);
  const found = prototypes.neighbours ? await trainer.read(prototypes.neighbours.index) : new Uint32Array();
  const shares = await trainer.read(prototypes.contributions);
  const { members } = prototypes;
  const neighbours = members - 1;
  const imageOf = memoryImages(feed, training.config, step);
  const shown = Math.min(count, anchors.length);
  return Array.from({ length: shown }, (_, i) => {
    const member = (row: number, place: number): Member => ({
      row,
      image: imageOf(row),
      contribution: shares[i * members + place] ?? 0,
    });
    return {
      anchor: member(anchors[i] ?? 0, 0),
      support: Array.from({ length: neighbours }, (_, n) => member(found[i * neighbours + n] ?? 0, n + 1)),
    };
  });
}

/**
 * Which image a row of the [CLS] memory came from, before `step`: every step writes its images behind those of the step
 * before, round and round, and which images a step takes is a pure function of its number.
 */
function memoryImages(feed: Feed, config: Config, step: number): (row: number) => number | null {
  const each = imagesPerStep(config);
  const written = step * each;
  const rows = config.sop.cls.memory;
  return (row) => {
    // The newest number n below `written` with n mod rows = row.
    const newest = written - 1 - ((((written - 1 - row) % rows) + rows) % rows);
    if (newest < 0) return null;
    return feed.imagesOf(Math.floor(newest / each))[newest % each] ?? null;
  };
}
