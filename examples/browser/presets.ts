import { presets as files } from 'presets:all';
import type { Settings } from '../../src/index.js';

/** A size to train at. */
export interface PagePreset {
  readonly id: string;
  readonly name: string;
  /** For whom, in a few words. */
  readonly note: string;
  readonly settings: Settings;
}

/**
 * For a page, where a few hundred steps must show: views that share much of their picture, in very different light and never
 * without colour. At Nano's size k-NN of 480 built-in pictures that are not trained on goes from 44 % to 55 % in 150 steps
 * and to 65 % in 300 (lavapipe, seed 0).
 */
const forPages: Settings = {
  ...files['small-64'],
  'model.drop_path': 0,
  'views.global_scale': [0.4, 1],
  'views.local_scale': [0.15, 0.4],
  'augment.brightness': 0.8,
  'augment.contrast': 0.6,
  'augment.grey': 0,
  'train.epochs': null,
  'eval.k': [10],
};

/** The command line's presets with the lengths and batches of a page, and one that is small enough for any processor. */
export const pagePresets: readonly PagePreset[] = [
  {
    id: 'nano',
    name: 'Nano',
    note: '32 × 32 pixels, for machines without a graphics card',
    settings: {
      ...forPages,
      'model.width': 48,
      'model.depth': 3,
      'model.heads': 3,
      'model.image_size': 32,
      'model.local_size': 16,
      'head.hidden': 128,
      'head.out': 32,
      'sop.cls.memory': 512,
      'sop.cls.anchors': 64,
      'sop.patch.memory': 512,
      'optim.lr': 2e-2,
      'optim.momentum_teacher': 0.97,
      'train.batch_size': 16,
      'train.steps': 600,
    },
  },
  {
    id: 'small',
    name: 'Small',
    note: '64 × 64 pixels, a few minutes on a laptop with a graphics card',
    settings: { ...forPages, 'train.steps': 3000 },
  },
  {
    id: 'medium',
    name: 'Medium',
    note: '96 × 96 pixels, a good graphics card',
    settings: {
      ...forPages,
      'model.width': 192,
      'model.depth': 8,
      'model.heads': 3,
      'model.image_size': 96,
      'model.local_size': 48,
      'head.hidden': 512,
      'head.out': 128,
      'optim.lr': 4e-3,
      'train.steps': 10_000,
    },
  },
  {
    id: 'vit-s',
    name: 'ViT-S/16',
    note: "224 × 224 pixels, the paper's encoder: hours on a strong graphics card",
    settings: {
      ...files['vit-s'],
      'views.local_count': 4,
      'sop.cls.memory': 8192,
      'sop.cls.anchors': 1024,
      'sop.cls.tasks': 1,
      'train.batch_size': 32,
      'train.epochs': null,
      'train.steps': 50_000,
      'train.checkpoint_blocks': true,
      'optim.warmup_epochs': null,
      'optim.warmup': 0.1,
      'eval.k': [10],
    },
  },
];
