import {
  AUGMENT_ROWS,
  AUGMENT_WORKGROUP,
  augmentBlurKernel,
  augmentColourKernel,
  augmentMeanKernel,
  augmentResizeKernel,
  type Channels,
  DRAWS_WIDTH,
  TABLE_WIDTH,
} from '../../shaders/augment.wgsl.js';
import { eachGrid } from '../../shaders/lib/each.js';
import { grid } from '../../shaders/lib/grid.js';
import { type Attributes, defineOp, input, type Launch, misfit, output, scratch } from '../graph/op.js';
import { elements, f32, like, sameShape } from '../graph/tensor.js';

export { DRAWS, DRAWS_WIDTH, FLAG, JITTER, TABLE, TABLE_WIDTH } from '../../shaders/augment.wgsl.js';

export type AugmentAttributes = Attributes & {
  readonly channels: Channels;
  /** Side of the views, pixels. */
  readonly size: number;
  /** One number a channel, of values in [0, 1]. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
};

/** Up to this many sums an invocation adds by itself; more are added in two levels. */
const MEAN_TERMS = 256;

/**
 * Augmented views of u8 images, as iBOT makes them: crop-resize, flip, jitter, greyscale, blur, solarize,
 * normalise, each as the row of `table` and `draws` says.
 *
 * Inputs: pixels u32 [words], images [h, w, channels] in any places; table u32 [n, 8] (`TABLE`) and draws f32 [n, 5]
 * (`DRAWS`), filled by `encodeViews`. Output: views [n, channels, size, size]. Crops must lie inside their images.
 */
export const augment = defineOp<AugmentAttributes>({
  name: 'augment',
  words: (i) => i < 2,
  infer([pixels, table, draws], { channels, size, mean, std }) {
    const views = table?.shape[0] ?? 0;
    const fits =
      pixels?.shape.length === 1 &&
      sameShape(table?.shape, [views, TABLE_WIDTH]) &&
      sameShape(draws?.shape, [views, DRAWS_WIDTH]) &&
      mean.length === channels &&
      std.length === channels;
    if (!fits) {
      const shapes = `[words], [n, ${TABLE_WIDTH}], [n, ${DRAWS_WIDTH}]`;
      const numbers = `${channels} means and std, not ${mean.length} and ${std.length}`;
      throw misfit('augment', { pixels, table, draws }, `${shapes}, with ${numbers}`);
    }
    return [f32(views, channels, size, size)];
  },
  scratch({ outputs: [views], attrs }) {
    const n = views?.shape[0] ?? 0;
    const count = columns(attrs);
    const parts = meanParts(count);
    const sums = [f32(n, count), ...(parts > 1 ? [f32(n, parts)] : []), f32(n)];
    return [like(views), ...sums];
  },
  launches({ outputs: [views], attrs }) {
    const n = views?.shape[0] ?? 0;
    const { channels, size } = attrs;
    const table = { table: input(1), draws: input(2) };
    const over = (places: number) => {
      const tiles = Math.ceil(places / AUGMENT_WORKGROUP);
      return { params: { tiles, size }, workgroups: grid(n * tiles, 1) };
    };
    const resize = over(columns(attrs));
    const blur = over(channels * size * Math.ceil(size / 4));
    const means = meanLaunches(n, attrs);
    const finish = finishParams(attrs);
    return [
      {
        kernel: augmentResizeKernel(channels),
        bindings: { pixels: input(0), ...table, stage: scratch(0), partial: scratch(1) },
        params: resize.params,
        workgroups: resize.workgroups,
      },
      ...means,
      {
        kernel: augmentColourKernel(channels),
        bindings: { ...table, stage: scratch(0), means: scratch(1 + means.length), views: output(0) },
        params: { ...resize.params, ...finish },
        workgroups: resize.workgroups,
      },
      {
        kernel: augmentBlurKernel('x'),
        bindings: { ...table, source: output(0), result: scratch(0) },
        params: { ...blur.params, channels, ...finish },
        workgroups: blur.workgroups,
      },
      {
        kernel: augmentBlurKernel('y'),
        bindings: { ...table, source: scratch(0), result: output(0) },
        params: { ...blur.params, channels, ...finish },
        workgroups: blur.workgroups,
      },
    ];
  },
  // Four taps an axis, twice around 20 operations of colour; what the sources hold is counted as large as the views.
  cost: ([pixels], [views]) => ({
    flops: 56 * elements(views),
    bytes: 4 * elements(views) + Math.min(elements(views), 4 * elements(pixels)),
  }),
});

/** Invocations of `resize` for a view: one a column and band of rows. */
function columns({ size }: AugmentAttributes): number {
  return size * Math.ceil(size / AUGMENT_ROWS);
}

/** Sums that the first of two levels makes of `count`; 1 where one level is enough. */
function meanParts(count: number): number {
  return count <= MEAN_TERMS ? 1 : Math.ceil(Math.sqrt(count));
}

/** From scratch 1 (sums of columns) to the mean grey value of each view in the scratch behind the last level. */
function meanLaunches(views: number, attrs: AugmentAttributes): Launch[] {
  const count = columns(attrs);
  const parts = meanParts(count);
  const level = (index: number, values: number, sums: number, scale: number): Launch => ({
    kernel: augmentMeanKernel(),
    bindings: { draws: input(2), values: scratch(index), sums: scratch(index + 1) },
    params: { count: views * sums, terms: values, parts: sums, scale },
    workgroups: eachGrid(views * sums),
  });
  const scale = 1 / attrs.size ** 2;
  return parts === 1 ? [level(1, count, 1, scale)] : [level(1, count, parts, 1), level(2, parts, 1, scale)];
}

function finishParams({ mean, std }: AugmentAttributes) {
  const scale = (channel: number) => 1 / (std[channel] ?? 1);
  return {
    mean_0: mean[0] ?? 0,
    mean_1: mean[1] ?? 0,
    mean_2: mean[2] ?? 0,
    scale_0: scale(0),
    scale_1: scale(1),
    scale_2: scale(2),
  };
}
