// augment: views of u8 images, as iBOT makes them: crop-resize, flip, jitter, greyscale, blur, solarize, normalise.
//
//   pixels   u32 [words]               u8 images [h, w, channels], packed little-endian, at any byte offsets
//   table    u32 [n, 8]                a row a view: see TABLE
//   draws    f32 [n, 5]                a row a view: see DRAWS
//   views    [n, channels, size, size]
//   stage    [n, channels, size, size] scratch: the view before contrast, later blurred along x
//   partial  [n, parts]                scratch: sums of grey values
//   means    [n]                       scratch: the mean grey value of each view, which contrast blends with
//
// `resize`: an invocation makes AUGMENT_ROWS output rows of one column. It walks the source rows that any of them needs, four
// source columns at a time, and sums them up under the weights of both axes: nothing is stored between the axes, and crops may
// have any size. The filter is PIL's bicubic (A = -0.5), stretched where the crop is reduced; it sees nothing outside the crop
// and its weights sum to 1. Jitter before contrast, which alone needs the whole view, happens here too.
// `mean`: a level of the sum of grey values; every part adds values of fixed places, so that the sum has one shape.
// `colour`: contrast and what follows. Views without blur are finished here.
// `blur_x`, `blur_y`: Gaussian over +-ceil(3 sigma), four outputs an invocation in a sliding window; edges are reflected
// without being repeated. Views without blur are left alone.
//
// A workgroup works on one view: loads of its row of the tables are uniform, and loops end together.

import type { Kernel } from '../src/graph/kernel.js';
import { each } from './lib/each.js';
import { GRID } from './lib/grid.js';
import { kernel, read, times, wgsl, write } from './lib/kernel.js';

/** Places in a row of `table`: the image's first byte and its width in pixels, the crop in pixels, switches, jitter order. */
export const TABLE = { offset: 0, width: 1, x: 2, y: 3, cropWidth: 4, cropHeight: 5, flags: 6, order: 7 } as const;
export const TABLE_WIDTH = 8;

/** Bits of `flags`. */
export const FLAG = { flip: 1, grey: 2, solarize: 4 } as const;

/** What a step of the jitter does. `order` holds four of them, two bits each, the first in the lowest bits. */
export const JITTER = { brightness: 0, contrast: 1, saturation: 2, hue: 3 } as const;

/** Places in a row of `draws`: factors (1 = none), hue shift in turns, sigma of the blur in pixels of the view (0 = none). */
export const DRAWS = { brightness: 0, contrast: 1, saturation: 2, hue: 3, sigma: 4 } as const;
export const DRAWS_WIDTH = 5;

export const AUGMENT_WORKGROUP = 64;
/** Output rows of an invocation of `resize` and `colour`; outputs of one of `blur_x` and `blur_y`. */
export const AUGMENT_ROWS = 4;

export type Channels = 1 | 3;

/** Head of every entry point that works on views: which view, and which place in it. */
const INVOCATION = `@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32`;
const PLACE = `
  let tile = divide(flat_group(workgroup, groups), params.tiles);
  let view = tile.quotient;
  let place = tile.rest * ${AUGMENT_WORKGROUP}u + local;
  let size = params.size;
  let table_row = view * ${TABLE_WIDTH}u;
  let draws_row = view * ${DRAWS_WIDTH}u;
`;

/**
 * `divide(n, d)` for n below 2^31 and quotients below 2^20: n / d in floats is off by one at most. A CPU has no vector
 * instruction that divides integers.
 */
const DIVIDE = wgsl`
struct Division { quotient: u32, rest: u32 }
fn divide(n: u32, d: u32) -> Division {
  let near = i32(f32(n) / f32(d));
  let rest = i32(n) - near * i32(d);
  let change = select(0, 1, rest >= i32(d)) - select(0, 1, rest < 0);
  return Division(u32(near + change), u32(rest - change * i32(d)));
}
`;

/** One pixel of all channels, its grey value, and clamping. */
function pixelType(channels: Channels): string {
  return wgsl`${GRID}${DIVIDE}
#if ${channels === 3}
alias Pixel = vec3<f32>;
fn luma(pixel: Pixel) -> f32 { return dot(pixel, vec3(0.299, 0.587, 0.114)); }
#else
alias Pixel = f32;
fn luma(pixel: Pixel) -> f32 { return pixel; }
#endif
fn saturate_pixel(pixel: Pixel) -> Pixel { return clamp(pixel, Pixel(0.0), Pixel(1.0)); }
`;
}

/** `jitter(pixel, factors, order, first, end, mean)`: steps first .. end - 1. */
function jitterFunction(channels: Channels): string {
  return wgsl`
fn blend(pixel: Pixel, other: Pixel, factor: f32) -> Pixel { return saturate_pixel(factor * pixel + (1.0 - factor) * other); }

#if ${channels === 3}
// RGB -> HSV, hue + turns, -> RGB: channel n is value - chroma * clamp(min(k, 4 - k), 0, 1), k = n + 6 hue mod 6.
fn shift_hue(pixel: Pixel, turns: f32) -> Pixel {
  let value = max(pixel.r, max(pixel.g, pixel.b));
  let chroma = value - min(pixel.r, min(pixel.g, pixel.b));
  let c = select(chroma, 1.0, chroma == 0.0);
  var sextant = (pixel.r - pixel.g) / c + 4.0;
  sextant = select(sextant, (pixel.b - pixel.r) / c + 2.0, value == pixel.g);
  sextant = select(sextant, (pixel.g - pixel.b) / c, value == pixel.r);
  let k = vec3(5.0, 3.0, 1.0) + sextant + 6.0 * turns;
  let within = k - 6.0 * floor(k / 6.0);
  let shifted = value - chroma * clamp(min(within, 4.0 - within), vec3(0.0), vec3(1.0));
  return saturate_pixel(select(shifted, pixel, turns == 0.0));
}
#endif

fn jitter(start: Pixel, factors: vec4<f32>, order: u32, first: u32, end: u32, mean: f32) -> Pixel {
  var pixel = start;
  for (var step = first; step < end; step++) {
    switch ((order >> (2u * step)) & 3u) {
      case ${JITTER.brightness}u: { pixel = blend(pixel, Pixel(0.0), factors.x); }
      case ${JITTER.contrast}u: { pixel = blend(pixel, Pixel(mean), factors.y); }
#if ${channels === 3}
      case ${JITTER.saturation}u: { pixel = blend(pixel, Pixel(luma(pixel)), factors.z); }
      case ${JITTER.hue}u: { pixel = shift_hue(pixel, factors.w); }
#endif
      default: {}
    }
  }
  return pixel;
}

// Step at which contrast stands.
fn contrast_step(order: u32) -> u32 {
  var step = 0u;
  while (step < 3u && ((order >> (2u * step)) & 3u) != ${JITTER.contrast}u) { step++; }
  return step;
}
`;
}

const FACTORS = `vec4(draws[draws_row + ${DRAWS.brightness}u], draws[draws_row + ${DRAWS.contrast}u],
    draws[draws_row + ${DRAWS.saturation}u], draws[draws_row + ${DRAWS.hue}u])`;

/** Colour planes that `resize` sums: one vec4 (AUGMENT_ROWS rows) each. */
const PLANES = ['red', 'green', 'blue'] as const;

export function augmentResizeKernel(channels: Channels): Kernel {
  const planes = PLANES.slice(0, channels);
  return kernel({
    label: 'augment.resize',
    bindings: {
      pixels: read('u32'),
      table: read('u32'),
      draws: read('f32'),
      stage: write('f32'),
      partial: write('f32'),
    },
    params: { tiles: 'u32', size: 'u32' },
    code: wgsl`${pixelType(channels)}${jitterFunction(channels)}
// PIL's bicubic, piecewise in |x| < 1 and |x| < 2, written as a sum of two pieces that vanish where they end: most of the
// arithmetic of an upscaled view is here.
fn cubic(x: vec4<f32>) -> vec4<f32> {
  let to_end = max(vec4(0.0), 2.0 - abs(x));
  let to_one = to_end - 1.0;
  let near = max(vec4(0.0), to_one);
  return 0.5 * to_end * to_end * to_one + near * near * (1.0 - (near + near));
}

// Centre of output i in a source of this length, split into whole and fraction: a float alone would lose the fraction.
struct Centre { whole: i32, fraction: f32 }
fn centre(i: u32, length: u32) -> Centre {
  let split = divide((2u * i + 1u) * length, 2u * params.size);
  return Centre(i32(split.quotient), f32(split.rest) / f32(2u * params.size));
}
fn first_tap(at: Centre, stretch: f32) -> i32 {
  return max(0, at.whole + i32(floor(at.fraction - 2.0 * stretch + 0.5)));
}
fn end_tap(at: Centre, stretch: f32, length: u32) -> i32 {
  return min(i32(length), at.whole + i32(ceil(at.fraction + 2.0 * stretch - 0.5)));
}

// Four bytes that begin inside 'low'. Two shifts, because one by 32 would be one by 0.
fn joined(low: u32, high: u32, shift: u32) -> vec4<f32> {
  return vec4<f32>((vec4((low >> shift) | ((high << 1u) << (31u - shift))) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u));
}

@compute @workgroup_size(${AUGMENT_WORKGROUP})
fn resize(${INVOCATION}) {
  ${PLACE}
  let column = divide(place, size);
  let x = column.rest;
  let band = column.quotient;
  if (band * ${AUGMENT_ROWS}u >= size) { return; }
  let image_width = table[table_row + ${TABLE.width}u];
  let crop_width = table[table_row + ${TABLE.cropWidth}u];
  let crop_height = table[table_row + ${TABLE.cropHeight}u];
  let flags = table[table_row + ${TABLE.flags}u];
  let first_pixel = table[table_row + ${TABLE.y}u] * image_width + table[table_row + ${TABLE.x}u];
  let first_byte = table[table_row + ${TABLE.offset}u] + first_pixel * ${channels}u;

  let stretch_x = max(1.0, f32(crop_width) / f32(size));
  let narrow_x = min(1.0, f32(size) / f32(crop_width));
  let centre_x = centre(select(x, size - 1u - x, (flags & ${FLAG.flip}u) != 0u), crop_width);
  let first_x = first_tap(centre_x, stretch_x);
  let end_x = end_tap(centre_x, stretch_x, crop_width);
  let origin_x = vec4(0.5, 1.5, 2.5, 3.5) - centre_x.fraction;

  let y = band * ${AUGMENT_ROWS}u;
  let stretch_y = max(1.0, f32(crop_height) / f32(size));
  let narrow_y = min(1.0, f32(size) / f32(crop_height));
${times(AUGMENT_ROWS, (k) => `  let centre_${k} = centre(y + ${k}u, crop_height);`)}
  let first_y = first_tap(centre_0, stretch_y);
  let whole_y = vec4<f32>(first_y - vec4(${times(AUGMENT_ROWS, (k) => `centre_${k}.whole,`)}));
  let origin_y = (whole_y + 0.5 - vec4(${times(AUGMENT_ROWS, (k) => `centre_${k}.fraction,`)})) * narrow_y;
  let end_y = end_tap(centre_${AUGMENT_ROWS - 1}, stretch_y, crop_height);

${planes.map((plane) => `  var ${plane} = vec4(0.0);`).join('\n')}
  var weight_x = 0.0;
  var weight_y = vec4(0.0);
  for (var tap = first_x; tap < end_x; tap += 4) {
    let inside = vec4(tap) + vec4(0, 1, 2, 3) < vec4(end_x);
    let weights_x = select(vec4(0.0), cubic((f32(tap - centre_x.whole) + origin_x) * narrow_x), inside);
    weight_x += dot(weights_x, vec4(1.0));
    weight_y = vec4(0.0);
${planes.map((plane) => `    var sum_${plane} = vec4(0.0);`).join('\n')}
    var byte = first_byte + (u32(first_y) * image_width + u32(tap)) * ${channels}u;
    // The last words may lie beyond the pixels: WebGPU then reads some other word, and its bytes weigh nothing.
    for (var row = first_y; row < end_y; row++) {
      let weights_y = cubic(f32(row - first_y) * narrow_y + origin_y);
      weight_y += weights_y;
      let index = byte >> 2u;
      let shift = 8u * (byte & 3u);
      let first = pixels[index];
      let second = pixels[index + 1u];
#if ${channels === 3}
      let third = pixels[index + 2u];
      let a = joined(first, second, shift);
      let b = joined(second, third, shift);
      let c = joined(third, pixels[index + 3u], shift);
      sum_red += weights_y * dot(weights_x, vec4(a.x, a.w, b.z, c.y));
      sum_green += weights_y * dot(weights_x, vec4(a.y, b.x, b.w, c.z));
      sum_blue += weights_y * dot(weights_x, vec4(a.z, b.y, c.x, c.w));
#else
      sum_red += weights_y * dot(weights_x, joined(first, second, shift));
#endif
      byte += image_width * ${channels}u;
    }
    // Sums of sums: a crop of a photograph has thousands of terms for each output, too many for one chain of roundings.
${planes.map((plane) => `    ${plane} += sum_${plane};`).join('\n')}
  }

  let scale = 1.0 / (255.0 * weight_x * weight_y);
  let factors = ${FACTORS};
  let order = table[table_row + ${TABLE.order}u];
  let steps = contrast_step(order);
  let plane_size = size * size;
  var grey_sum = 0.0;
  for (var k = 0u; k < min(${AUGMENT_ROWS}u, size - y); k++) {
    let sums = Pixel(${planes.map((plane) => `${plane}[k]`).join(', ')});
    let pixel = jitter(saturate_pixel(sums * scale[k]), factors, order, 0u, steps, 0.0);
    grey_sum += luma(pixel);
    let at = view * ${channels}u * plane_size + (y + k) * size + x;
#if ${channels === 3}
    stage[at] = pixel.r;
    stage[at + plane_size] = pixel.g;
    stage[at + 2u * plane_size] = pixel.b;
#else
    stage[at] = pixel;
#endif
  }
  let bands = (size + ${AUGMENT_ROWS - 1}u) / ${AUGMENT_ROWS}u;
  partial[(view * bands + band) * size + x] = grey_sum;
}
`,
  });
}

/** sums[view, part] = scale * sum of values[view, part + j parts]; 0 where the view's contrast is left alone. */
export function augmentMeanKernel(): Kernel {
  return kernel({
    label: 'augment.mean',
    bindings: { draws: read('f32'), values: read('f32'), sums: write('f32') },
    params: { count: 'u32', terms: 'u32', parts: 'u32', scale: 'f32' },
    code: each(
      'mean',
      `
  let view = i / params.parts;
  let wanted = draws[view * ${DRAWS_WIDTH}u + ${DRAWS.contrast}u] != 1.0;
  let end = select(0u, params.terms, wanted);
  var sum = 0.0;
  for (var j = i % params.parts; j < end; j += params.parts) { sum += values[view * params.terms + j]; }
  sums[i] = sum * params.scale;`,
    ),
  });
}

/**
 * Solarize and normalise; mean and 1 / std of the channels are params. The threshold is 128 / 255 less a few roundings: a
 * source byte of 128 is inverted on every adapter.
 */
const FINISH = wgsl`
fn finish(value: f32, flags: u32, channel: u32) -> f32 {
  let solarized = (flags & ${FLAG.solarize}u) != 0u && value >= 128.0 / 255.0 - 0x1p-20;
  let means = vec3(params.mean_0, params.mean_1, params.mean_2);
  let scales = vec3(params.scale_0, params.scale_1, params.scale_2);
  return (select(value, 1.0 - value, solarized) - means[channel]) * scales[channel];
}
`;
const FINISH_PARAMS = {
  mean_0: 'f32',
  mean_1: 'f32',
  mean_2: 'f32',
  scale_0: 'f32',
  scale_1: 'f32',
  scale_2: 'f32',
} as const;

export function augmentColourKernel(channels: Channels): Kernel {
  return kernel({
    label: 'augment.colour',
    bindings: { table: read('u32'), draws: read('f32'), stage: read('f32'), means: read('f32'), views: write('f32') },
    params: { tiles: 'u32', size: 'u32', ...FINISH_PARAMS },
    code: wgsl`${pixelType(channels)}${jitterFunction(channels)}${FINISH}
@compute @workgroup_size(${AUGMENT_WORKGROUP})
fn colour(${INVOCATION}) {
  ${PLACE}
  let column = divide(place, size);
  let x = column.rest;
  let first_y = column.quotient * ${AUGMENT_ROWS}u;
  let flags = table[table_row + ${TABLE.flags}u];
  let order = table[table_row + ${TABLE.order}u];
  let factors = ${FACTORS};
  let done = draws[draws_row + ${DRAWS.sigma}u] <= 0.0;
  let mean = means[view];
  let steps = contrast_step(order);
  let plane_size = size * size;
  for (var y = first_y; y < min(first_y + ${AUGMENT_ROWS}u, size); y++) {
    let at = view * ${channels}u * plane_size + y * size + x;
#if ${channels === 3}
    var pixel = Pixel(stage[at], stage[at + plane_size], stage[at + 2u * plane_size]);
#else
    var pixel = stage[at];
#endif
    pixel = jitter(pixel, factors, order, steps, 4u, mean);
#if ${channels === 3}
    pixel = select(pixel, Pixel(luma(pixel)), (flags & ${FLAG.grey}u) != 0u);
    views[at] = select(pixel.r, finish(pixel.r, flags, 0u), done);
    views[at + plane_size] = select(pixel.g, finish(pixel.g, flags, 1u), done);
    views[at + 2u * plane_size] = select(pixel.b, finish(pixel.b, flags, 2u), done);
#else
    views[at] = select(pixel, finish(pixel, flags, 0u), done);
#endif
  }
}
`,
  });
}

/** Along x from `views` to `stage`, or along y from `stage` to `views`, which finishes the view. */
export function augmentBlurKernel(axis: 'x' | 'y'): Kernel {
  const [along, across] = axis === 'x' ? ['1u', 'size'] : ['size', '1u'];
  return kernel({
    label: `augment.blur_${axis}`,
    bindings: { table: read('u32'), draws: read('f32'), source: read('f32'), result: write('f32') },
    params: { tiles: 'u32', size: 'u32', channels: 'u32', ...FINISH_PARAMS },
    code: wgsl`${GRID}${DIVIDE}${FINISH}
// A triangle wave over the line: ... 2 1 0 1 2 ... size - 2, size - 1, size - 2 ... Half a step keeps i / period off whole
// numbers, where rounding would decide.
fn reflected(i: i32) -> u32 {
  let period = max(1, 2 * i32(params.size) - 2);
  let folded = i - period * i32(floor((f32(i) + 0.5) / f32(period)));
  return u32(min(folded, period - folded));
}

@compute @workgroup_size(${AUGMENT_WORKGROUP})
fn blur_${axis}(${INVOCATION}) {
  ${PLACE}
  let sigma = draws[draws_row + ${DRAWS.sigma}u];
  let bands = (size + 3u) / 4u;
  let split = divide(place, size * bands);
  let plane = split.quotient;
#if ${axis === 'x'}
  let segment = divide(split.rest, bands);
  let line = segment.quotient;
  let first = 4u * segment.rest;
#else
  let segment = divide(split.rest, size);
  let line = segment.rest;
  let first = 4u * segment.quotient;
#endif
  if (sigma <= 0.0 || plane >= params.channels) { return; }
  let origin = (view * params.channels + plane) * size * size + line * ${across};
  let radius = i32(ceil(3.0 * sigma));
  // Below 0.01 all neighbours weigh 0 anyway, and the square would underflow.
  let exponent = -0.5 / (max(sigma, 0.01) * max(sigma, 0.01));
  var window = vec4(0.0);
  var sum = vec4(0.0);
  var total = 0.0;
  for (var offset = -radius - 3; offset <= radius; offset++) {
    window = vec4(window.yzw, source[origin + reflected(i32(first) + offset + 3) * ${along}]);
    // The first three only fill the window.
    let weight = select(0.0, exp(f32(offset * offset) * exponent), offset >= -radius);
    sum += weight * window;
    total += weight;
  }
  let flags = table[table_row + ${TABLE.flags}u];
  let blurred = sum / total;
${times(
  4,
  (k) => wgsl`
  if (first + ${k}u < size) {
#if ${axis === 'x'}
    result[origin + (first + ${k}u) * ${along}] = blurred[${k}];
#else
    result[origin + (first + ${k}u) * ${along}] = finish(blurred[${k}], flags, plane);
#endif
  }
`,
)}
}
`,
  });
}
