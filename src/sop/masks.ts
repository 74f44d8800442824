import { NO_ROW } from '../ops/gather_rows.js';
import type { Draws } from '../rng.js';

/** How many patches a mask covers: a share drawn within ratio -+ ratioVar, in [0, 1]. */
export interface MaskRatio {
  readonly ratio: number;
  readonly ratioVar: number;
}

export interface MaskOptions extends MaskRatio {
  readonly kind: 'block' | 'random';
}

/** Patches along a grid's height and width. */
export type Grid = readonly [h: number, w: number];

/** Aspect ratios of blocks, h over w, as in BEiT. */
const ASPECT = [0.3, 1 / 0.3] as const;
const ATTEMPTS = 10;

/** Most patches that a mask of these options can cover. */
export function maxMasked({ ratio, ratioVar }: MaskRatio, [h, w]: Grid): number {
  return covered(ratio + ratioVar, h * w);
}

/**
 * A mask over a grid of patches (the paper's Appendix C.3), u8 [h w], 1 = masked.
 * `random`: exactly floor(share n) patches. `block`: rectangles, together at most that many.
 */
export function drawMask(draws: Draws, { kind, ratio, ratioVar }: MaskOptions, grid: Grid): Uint8Array {
  const [h, w] = grid;
  const count = covered(draws.uniform(ratio - ratioVar, ratio + ratioVar), h * w);
  const mask = new Uint8Array(h * w);
  if (kind === 'random') for (const place of draws.permutation(h * w).subarray(0, count)) mask[place] = 1;
  else
    for (let missing = count, added = 1; missing > 0 && added > 0; missing -= added)
      added = addBlock(draws, mask, grid, missing);
  return mask;
}

function covered(share: number, patches: number): number {
  return Math.floor(Math.min(1, Math.max(0, share)) * patches);
}

/** Covers a rectangle with 1 to `missing` patches that were free, and returns their number; 0 when no attempt fits. */
function addBlock(draws: Draws, mask: Uint8Array, [h, w]: Grid, missing: number): number {
  const smallest = Math.floor(Math.min(h, w) / 3) ** 2;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const area = draws.uniform(smallest, missing);
    const aspect = Math.exp(draws.uniform(Math.log(ASPECT[0]), Math.log(ASPECT[1])));
    const height = Math.round(Math.sqrt(area * aspect));
    const width = Math.round(Math.sqrt(area / aspect));
    // BEiT's blocks never span the whole grid.
    if (height >= h || width >= w) continue;
    const top = draws.below(h - height + 1);
    const left = draws.below(w - width + 1);
    const free: number[] = [];
    for (let y = top; y < top + height; y++) {
      for (let x = left; x < left + width; x++) if (!mask[y * w + x]) free.push(y * w + x);
    }
    if (free.length === 0 || free.length > missing) continue;
    for (const place of free) mask[place] = 1;
    return free.length;
  }
  return 0;
}

export interface MaskInputsOptions {
  /** u8 [2 B, L] of the global views, view-major. */
  readonly masks: ArrayLike<number>;
  /** [B]: the patch of its second global view that each image gives to E_P. */
  readonly patchRows: ArrayLike<number>;
  /** B. */
  readonly batch: number;
  /** L, patches of a global view. */
  readonly patches: number;
  /** M, length of the padded list of masked patches. */
  readonly maskedPatches: number;
  /**
   * Which of the teacher's patches reach the head. `train`: the partners of the masked ones, then the B that E_P gets.
   * `all`: every patch of both views, for `debug step`.
   */
  readonly layout: 'train' | 'all';
}

/** Contents of the step's inputs of the same names (step-inputs.ts, `BatchInputs`). */
export interface MaskInputs {
  /** [2 B, L]. */
  readonly mask: Uint32Array<ArrayBuffer>;
  /** [M]: token rows (a sequence is [CLS] and L patches); `NO_ROW` pads. */
  readonly maskedRows: Uint32Array<ArrayBuffer>;
  /** [M + B] (`train`) or [2 B L] (`all`). */
  readonly teacherRows: Uint32Array<ArrayBuffer>;
  /** [M, 2]: row of `teacherRows`, and no second partner. */
  readonly partners: Uint32Array<ArrayBuffer>;
  /** [M]: 1 / (masked patches of the image's view x 2 B); 0 pads. */
  readonly weights: Float32Array<ArrayBuffer>;
  /** [B]: rows of `teacherRows`. */
  readonly insertedRows: Uint32Array<ArrayBuffer>;
}

/**
 * Index lists of fixed length by which only masked patches reach the patch head and loss (eq. 4), and each image gives one
 * patch of its second global view to E_P.
 *
 * @throws RangeError for more masked patches than the list holds: a bug of the caller
 */
export function maskInputs(options: MaskInputsOptions): MaskInputs {
  const { masks, patchRows, batch, patches, maskedPatches, layout } = options;
  const views = 2 * batch;
  const token = (view: number, patch: number): number => view * (1 + patches) + 1 + patch;
  const mask = Uint32Array.from({ length: views * patches }, (_, i) => (masks[i] ? 1 : 0));
  const maskedRows = new Uint32Array(maskedPatches).fill(NO_ROW);
  const partners = new Uint32Array(2 * maskedPatches).fill(NO_ROW);
  const weights = new Float32Array(maskedPatches);
  let row = 0;
  for (let view = 0; view < views; view++) {
    const first = row;
    for (let patch = 0; patch < patches; patch++) {
      if (!mask[view * patches + patch]) continue;
      if (row === maskedPatches) throw new RangeError(`more than ${maskedPatches} masked patches`);
      maskedRows[row] = token(view, patch);
      partners[2 * row] = layout === 'train' ? row : view * patches + patch;
      row++;
    }
    weights.fill(1 / ((row - first) * views), first, row);
  }

  const given = (image: number): number => patchRows[image] ?? NO_ROW;
  const second = Array.from({ length: batch }, (_, image) => token(batch + image, given(image)));
  return {
    mask,
    maskedRows,
    partners,
    weights,
    teacherRows:
      layout === 'train'
        ? Uint32Array.from([...maskedRows, ...second])
        : Uint32Array.from({ length: views * patches }, (_, i) => token(Math.floor(i / patches), i % patches)),
    insertedRows: Uint32Array.from({ length: batch }, (_, image) =>
      layout === 'train' ? maskedPatches + image : (batch + image) * patches + given(image),
    ),
  };
}
