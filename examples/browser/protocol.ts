import type { BatchPictures, PrototypePicture } from '../../src/index.js';

/** What page and worker say to each other. Everything that computes lives in the worker; the page draws. */

/** Images that somebody gave, with what is known of their classes. */
export interface GivenImages {
  readonly name: string;
  readonly pictures: readonly (Blob | ImageBitmap)[];
  /** Of each picture; empty where none is known. */
  readonly labels: readonly number[];
  readonly classes: readonly string[];
}

export type Download = 'weights' | 'metrics' | 'checkpoint';

export type ToWorker =
  | { readonly type: 'open' }
  | { readonly type: 'use-shapes' }
  | { readonly type: 'use-images'; readonly images: GivenImages }
  | { readonly type: 'start'; readonly preset: string }
  | { readonly type: 'pause' }
  | { readonly type: 'go-on' }
  | { readonly type: 'stop' }
  /** Goes on from what the browser kept: after a reload, or a lost device. */
  | { readonly type: 'restore' }
  | { readonly type: 'discard' }
  | { readonly type: 'select'; readonly image: number }
  | { readonly type: 'download'; readonly what: Download }
  | { readonly type: 'open-file'; readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }
  /** The tab was hidden: what was learned is kept at once. */
  | { readonly type: 'keep' };

/** A size to train at, measured against this adapter. */
export interface PresetEstimate {
  readonly id: string;
  readonly name: string;
  /** For whom, in a few words. */
  readonly note: string;
  /** Side of a view. */
  readonly pixels: number;
  readonly steps: number;
  /** Images of a step. */
  readonly batch: number;
  /** Backbone and head. */
  readonly parameters: number;
  /** Of a training step, bytes. */
  readonly memory: number;
  readonly imagesPerSecond: number;
  /** Why it cannot run here; null where it can. */
  readonly unfit: string | null;
}

export interface SetInfo {
  readonly name: string;
  readonly count: number;
  readonly classes: readonly string[] | null;
  readonly labels: Int32Array | null;
  /** Thumbnails in rows of `columns`, `tile` pixels wide and high. */
  readonly atlas: ImageBitmap;
  readonly columns: number;
  readonly tile: number;
}

export interface StepPoint {
  readonly step: number;
  readonly lossCls: number;
  readonly lossPatch: number;
  readonly imagesPerSecond: number;
}

export interface LookPoint {
  readonly step: number;
  /** Percent; null where there are no classes. */
  readonly knn: number | null;
  readonly featureStd: number;
  readonly effectiveRank: number;
}

export interface Look extends LookPoint {
  /** How the model has collapsed, in words; null where it has not. */
  readonly collapsed: string | null;
  /** Images that were looked at, by their place in the set; the rows of everything below. */
  readonly images: Int32Array;
  /** Positions in [0, 1], [images, 2], by principal components. */
  readonly positions: Float32Array;
  /** Unit rows [images, width], for UMAP. */
  readonly features: Float32Array<ArrayBuffer>;
  readonly width: number;
  readonly views: Pick<BatchPictures, 'grid' | 'images'>;
  readonly prototypes: readonly PrototypePicture[];
}

export interface Selection {
  readonly image: number;
  /** The part of the image that the encoder gets, RGBA. */
  readonly size: number;
  readonly pixels: Uint8ClampedArray<ArrayBuffer>;
  readonly heads: number;
  /** f32 [heads, grid, grid], shares of [CLS]'s attention. */
  readonly attention: Float32Array;
  readonly grid: number;
  readonly neighbours: readonly { readonly image: number; readonly score: number }[];
}

export type Phase = 'empty' | 'ready' | 'preparing' | 'training' | 'paused' | 'finished' | 'looking' | 'lost';

/** A run that the browser kept. */
export interface Kept {
  readonly step: number;
  readonly steps: number;
  readonly preset: string;
  readonly set: string;
}

export type Trouble = 'no-adapter' | 'lost' | 'storage' | 'data' | 'training' | 'file';

export type FromWorker =
  | { readonly type: 'opened'; readonly adapter: string; readonly software: boolean }
  /** What a tab before this one left. */
  | { readonly type: 'left'; readonly run: Kept }
  | { readonly type: 'presets'; readonly presets: readonly PresetEstimate[] }
  | { readonly type: 'set'; readonly set: SetInfo }
  | {
      readonly type: 'phase';
      readonly phase: Phase;
      readonly step: number;
      readonly steps: number;
    }
  /** `done` of `total` of something that takes a while; `what` in words. */
  | { readonly type: 'progress'; readonly what: string; readonly done: number; readonly total: number }
  | { readonly type: 'steps'; readonly points: readonly StepPoint[] }
  /** Everything that was recorded before, when a run goes on or metrics were opened. */
  | { readonly type: 'history'; readonly points: readonly StepPoint[]; readonly looks: readonly LookPoint[] }
  | { readonly type: 'look'; readonly look: Look }
  | { readonly type: 'selection'; readonly selection: Selection }
  | { readonly type: 'file'; readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'kept'; readonly step: number }
  | { readonly type: 'note'; readonly text: string }
  | { readonly type: 'trouble'; readonly kind: Trouble; readonly text: string };
