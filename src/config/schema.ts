import * as v from 'valibot';
import {
  choice,
  derivedInteger,
  derivedReal,
  integer,
  integerList,
  interval,
  optionalText,
  perChannel,
  perView,
  real,
  realOr,
  skipPolicy,
  toggle,
} from './fields.js';

/**
 * Every key of the configuration with its type, range and default. The defaults are the main setting of the paper
 * (ViT-S/16, ImageNet, Appendix A) and of its public release. Browser-safe.
 */

/** Width, depth and heads of the named encoders (ViT as in DINO, iBOT and timm). */
export const architectures = {
  tiny: { width: 192, depth: 12, heads: 3, mlp_ratio: 4 },
  small: { width: 384, depth: 12, heads: 6, mlp_ratio: 4 },
  base: { width: 768, depth: 12, heads: 12, mlp_ratio: 4 },
  large: { width: 1024, depth: 24, heads: 16, mlp_ratio: 4 },
} as const;

/** The keys that a named architecture fixes, and `custom` asks for. */
export const sizeKeys = ['width', 'depth', 'heads', 'mlp_ratio'] as const;

/**
 * A section may be left out as a whole; a key it does not know is an error.
 * Every entry has a default, which valibot's type of the default cannot know: hence the cast.
 */
const section = <E extends v.ObjectEntries>(entries: E) => v.optional(v.strictObject(entries), {} as never);

const modelEntries = {
  arch: choice(['tiny', 'small', 'base', 'large', 'custom'], 'small', 'encoder; custom takes the four sizes below'),
  width: derivedInteger({ min: 1, max: 65536 }, 'features of a token'),
  depth: derivedInteger({ min: 1, max: 1024 }, 'transformer blocks'),
  heads: derivedInteger({ min: 1, max: 1024 }, 'attention heads; custom: width / 64 where left out'),
  mlp_ratio: derivedReal({ above: 0, max: 64 }, 'hidden width of an MLP over width; custom: 4 where left out'),
  patch_size: integer(16, { min: 1, max: 1024 }, 'side of a patch, pixels'),
  image_size: integer(224, { min: 1, max: 8192 }, 'side of a global view, pixels'),
  local_size: integer(96, { min: 1, max: 8192 }, 'side of a local view, pixels'),
  drop_path: real(
    0.1,
    { min: 0, below: 1 },
    'stochastic depth of the last block, rising linearly from 0; student only',
  ),
  init_std: realOr('fan-in', 0.02, { above: 0 }, 'deviation of initial weights; fan-in: 1 / sqrt(inputs)'),
  global_feature: choice(['cls', 'avg-patch'], 'cls', 'what stands for the whole image (Table C.2)'),
};

/** Fills in the sizes of a named architecture and says where given ones contradict it. */
const modelSection = v.pipe(
  v.strictObject(modelEntries),
  v.rawTransform(({ dataset: { value: model }, addIssue, NEVER }) => {
    const named = model.arch === 'custom' ? undefined : architectures[model.arch];
    const complain = (key: (typeof sizeKeys)[number], message: string) => {
      addIssue({ message, path: [{ type: 'object', origin: 'value', input: model, key, value: model[key] }] });
    };
    const wide = model.width !== null && model.width % 64 === 0 ? model.width / 64 : null;
    const sizes = {
      width: model.width ?? named?.width ?? null,
      depth: model.depth ?? named?.depth ?? null,
      heads: model.heads ?? named?.heads ?? wide,
      mlp_ratio: model.mlp_ratio ?? named?.mlp_ratio ?? 4,
    };
    if (named !== undefined) {
      for (const key of sizeKeys) {
        if (sizes[key] !== named[key]) complain(key, `${named[key]}, as model.arch ${model.arch} has it`);
      }
    }
    const { width, depth, heads, mlp_ratio } = sizes;
    if (width === null) complain('width', 'an integer, since model.arch is custom');
    if (depth === null) complain('depth', 'an integer, since model.arch is custom');
    if (heads === null && width !== null) complain('heads', 'an integer, since width is no multiple of 64');
    if (width === null || depth === null || heads === null) return NEVER;
    return { ...model, width, depth, heads, mlp_ratio };
  }),
);

/** One memory and how prototypes are made of it. `k` of the paper is `neighbours`; 0 means the anchor alone. */
const memorySection = (rows: number, anchors: number, neighbours: number, tasks: number) =>
  section({
    memory: integer(rows, { min: 2, max: 2 ** 24 }, 'rows of the memory, N'),
    anchors: integer(anchors, { min: 2, max: 2 ** 20 }, 'anchors of a task, K'),
    neighbours: integer(neighbours, { min: 0, max: 16 }, 'support embeddings that each anchor adds, k'),
    tasks: integer(tasks, { min: 1, max: 64 }, 'independent tasks a step, losses averaged'),
  });

const sopSection = section({
  contributions: choice(['soft', 'one-hot'], 'soft', 'what a support embedding gives to its prototype (Table 9)'),
  smoothing: real(
    0.1,
    { min: 0, below: 1 },
    'an anchor gives 1 - smoothing to its own prototype; with 0 and student_temp < 0.023 probabilities may underflow',
  ),
  search: choice(['all', 'non-anchors'], 'all', 'rows in which neighbours are searched'),
  neighbour_search: choice(
    ['auto', 'graph', 'full'],
    'auto',
    'exact either way: by lists kept from step to step (graph), anew (full), or whichever costs less',
  ),
  anchor_selection: choice(['uniform', 'fixed', 'low-energy'], 'uniform', 'how anchors are drawn (Table C.7)'),
  cls: memorySection(65536, 4096, 8, 4),
  patch: memorySection(8192, 512, 0, 1),
  student_temp: real(0.1, { above: 0 }, 'temperature of the student'),
  teacher_temp: real(0.04, { above: 0 }, 'temperature of the teacher after its warm-up'),
  teacher_temp_warmup: real(0.04, { above: 0 }, 'temperature of the teacher at the start of its warm-up'),
  teacher_temp_warmup_epochs: integer(0, { min: 0 }, 'epochs over which it goes linearly to teacher_temp'),
});

/** Exactly one of these two says how long the warm-up of the learning rate is. */
export const warmupKeys = ['optim.warmup', 'optim.warmup_epochs'] as const;
/** Exactly one of these three says how long a run is; the schedules span it. */
export const lengthKeys = ['train.epochs', 'train.steps', 'train.minutes'] as const;

const optimSection = section({
  lr: real(5e-4, { above: 0 }, 'peak learning rate for a batch of 256; used is lr x batch x accumulate / 256'),
  min_lr: real(1e-6, { min: 0 }, 'learning rate at the end, as used'),
  warmup: derivedReal({ min: 0, below: 1 }, 'share of the run in which the learning rate rises from 0'),
  warmup_epochs: derivedReal({ min: 0 }, 'the same in epochs'),
  weight_decay: real(0.04, { min: 0 }, 'weight decay at the start'),
  weight_decay_end: real(0.4, { min: 0 }, 'weight decay at the end'),
  clip: real(3, { min: 0 }, 'largest gradient norm of each parameter tensor; 0: no clipping'),
  momentum_teacher: real(0.996, { min: 0, max: 1 }, 'EMA momentum of the teacher at the start; 1 at the end'),
  accumulate: integer(1, { min: 1, max: 256 }, 'batches of which gradients are averaged before an update'),
});

const trainSection = section({
  batch_size: integer(1024, { min: 1, max: 65536 }, 'images in a batch'),
  epochs: derivedInteger({ min: 1 }, 'length of the run in epochs'),
  steps: derivedInteger({ min: 1 }, 'length of the run in steps'),
  minutes: derivedReal({ above: 0 }, 'length of the run in minutes'),
  seed: integer(0, { min: 0, max: 2 ** 32 - 1 }, 'seed of everything that is drawn'),
  precision: choice(
    ['f32', 'f16'],
    'f32',
    'type of activations and of the copies of weights that they meet; f16 where the adapter has shader-f16',
  ),
  loss_scale: real(65536, { min: 1, max: 2 ** 32 }, 'f16: the loss is multiplied by this at the start; adapts itself'),
  on_nonfinite: skipPolicy('what a step that is not finite does: ends the run, or is skipped, so many in a row'),
  stop_on_collapse: toggle(false, 'end the run where its features collapse, instead of warning'),
  checkpoint_minutes: real(5, { min: 0 }, 'minutes of training between two checkpoints, at most'),
  checkpoint_blocks: toggle(false, 'recompute blocks in the backward pass: less memory, more work'),
});

const probability = { min: 0, max: 1 } as const;

/** The length of a run where nothing is said: that of the paper's ViT-S. */
const paperEpochs = 800;
/** The paper's warm-up; a run of less than ten times that warms up for a tenth of itself. */
const paperWarmupEpochs = 10;

/** The schema: an object with any keys left out in, the whole configuration with every default out. */
export const ConfigSchema = v.pipe(
  v.strictObject({
    model: v.optional(modelSection, {}),
    head: section({
      hidden: integer(2048, { min: 1, max: 65536 }, 'hidden width of the projection head'),
      layers: integer(3, { min: 1, max: 16 }, 'linear layers of the projection head'),
      out: integer(256, { min: 1, max: 4096 }, 'width of an embedding, d'),
    }),
    views: section({
      local_count: integer(10, { min: 0, max: 64 }, 'local views of an image, beside its two global ones'),
      global_scale: interval([0.25, 1], { above: 0, max: 1 }, 'area of a global crop over that of the image'),
      local_scale: interval([0.05, 0.25], { above: 0, max: 1 }, 'area of a local crop over that of the image'),
    }),
    augment: section({
      flip: real(0.5, probability, 'probability of a horizontal flip'),
      jitter: real(0.8, probability, 'probability of colour jitter'),
      brightness: real(0.4, { min: 0 }, 'brightness factor is drawn within 1 -+ this'),
      contrast: real(0.4, { min: 0 }, 'contrast factor is drawn within 1 -+ this'),
      saturation: real(0.2, { min: 0 }, 'saturation factor is drawn within 1 -+ this'),
      hue: real(0.1, { min: 0, max: 0.5 }, 'hue shift is drawn within -+ this, in turns'),
      grey: real(0.2, probability, 'probability of losing all colour'),
      blur: perView([1, 0.1, 0.5], probability, 'probability of Gaussian blur'),
      blur_sigma: interval([0.1, 2], { above: 0 }, 'sigma of the blur, pixels of the crop'),
      solarize: perView([0, 0.2, 0], probability, 'probability of inverting values >= 128'),
    }),
    mask: section({
      kind: choice(['block', 'random'], 'block', 'shape of the masks of global student views (Figure C.1)'),
      ratio: derivedReal({ min: 0, below: 1 }, 'share of masked patches; block 0.3, random 0.7 where left out'),
      ratio_var: real(0, { min: 0, below: 1 }, 'the ratio of an image is drawn within ratio -+ this'),
    }),
    sop: sopSection,
    loss: section({
      cls_weight: real(1, { min: 0 }, 'weight of the [CLS] loss (eq. 2)'),
      patch_weight: real(1, { min: 0 }, 'weight of the patch loss (eq. 4)'),
    }),
    optim: optimSection,
    train: trainSection,
    data: section({
      path: optionalText('folder, file or name of the training set'),
      mean: perChannel({ min: 0, max: 1 }, "mean of a channel; ImageNet's for colour, the set's own for grey"),
      std: perChannel({ above: 0, max: 1 }, 'deviation of a channel, likewise'),
      on_bad_image: choice(['error', 'skip'], 'error', 'what an unreadable image does'),
    }),
    log: section({
      every: integer(0, { min: 0 }, 'steps between printed lines where there is no terminal; 0: every 5 seconds'),
    }),
    eval: section({
      every_epochs: integer(1, { min: 0 }, 'epochs between evaluations; 0: at the end only'),
      k: integerList([10, 20, 100, 200], { min: 1 }, 'numbers of neighbours that vote'),
    }),
  }),
  v.transform((config) => {
    const { mask, optim, train } = config;
    const lengthGiven = train.epochs !== null || train.steps !== null || train.minutes !== null;
    const epochs = lengthGiven ? train.epochs : paperEpochs;
    const warmupGiven = optim.warmup !== null || optim.warmup_epochs !== null;
    const longRun = epochs !== null && epochs >= 10 * paperWarmupEpochs;
    const warmup = longRun ? { warmup_epochs: paperWarmupEpochs } : { warmup: 0.1 };
    return {
      ...config,
      mask: { ...mask, ratio: mask.ratio ?? (mask.kind === 'block' ? 0.3 : 0.7) },
      optim: warmupGiven ? optim : { ...optim, ...warmup },
      train: { ...train, epochs },
    };
  }),
);

/** The whole, resolved configuration of a run. */
export type Config = v.InferOutput<typeof ConfigSchema>;

/** Images that an optimizer step takes, batches whose gradients are averaged together. */
export function imagesPerStep({ train, optim }: Pick<Config, 'train' | 'optim'>): number {
  return train.batch_size * optim.accumulate;
}

/**
 * How long a run is.
 *
 * @returns the unit that was chosen and its count; a valid configuration has exactly one
 */
export function runLength(config: Config): { readonly unit: 'epochs' | 'steps' | 'minutes'; readonly value: number } {
  const { epochs, steps, minutes } = config.train;
  if (steps !== null) return { unit: 'steps', value: steps };
  if (minutes !== null) return { unit: 'minutes', value: minutes };
  return { unit: 'epochs', value: epochs ?? paperEpochs };
}
