import { encodeViews, type ImageSize, inside, newViewArrays, type ViewParameters } from '../data/augment.js';
import type { ArrayOf, Dtype, NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { Graph } from '../graph/graph.js';
import { type AugmentAttributes, augment } from '../ops/augment.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { Replay } from '../plan/replay.js';

/** A wider blur would only take longer. */
const SIGMA_LIMIT = 1000;

/**
 * `sop-gpu debug augment`: the augmentation of given images with given draws, one view an image.
 *
 * @param tensors as `sop-gpu debug augment --help` has them: `images` u8 [B, H, W, C], `crop`, `flip`, `grey`, ...
 * @param metadata `size`, `mean`, `std`
 * @returns `views` f32 [B, C, size, size]
 * @throws SopError 65 naming the tensor or setting that is missing or malformed
 */
export async function debugAugment(
  gpu: Gpu,
  tensors: ReadonlyMap<string, NamedArray>,
  metadata: ReadonlyMap<string, string>,
): Promise<NamedArray[]> {
  const images = tensors.get('images');
  if (images?.dtype !== 'U8' || images.shape.length !== 4 || images.data.length === 0)
    throw malformed('images', 'u8 [B, H, W, C]', describe(images));
  const [count = 0, height = 0, width = 0, channels = 0] = images.shape;
  if (channels !== 1 && channels !== 3) throw malformed('images', '1 or 3 channels', describe(images));
  const size = Number(metadata.get('size'));
  if (!(Number.isInteger(size) && size > 0 && size <= 8192))
    throw malformed('size', 'a whole number from 1 to 8192', `${metadata.get('size')}`);
  const attrs: AugmentAttributes = {
    channels,
    size,
    mean: perChannel(metadata, 'mean', channels),
    std: perChannel(metadata, 'std', channels),
  };

  const views = readViews(tensors, count, { width, height });
  const arrays = newViewArrays(count);
  encodeViews(
    arrays,
    views,
    views.map((_, i) => ({ offset: i * height * width * channels, width, height })),
  );

  const graph = new Graph();
  const words = new Uint32Array(Math.ceil(images.data.length / 4));
  new Uint8Array(words.buffer).set(images.data);
  const pixels = graph.input('pixels', [words.length], 'u32');
  const table = graph.input('table', [count, arrays.table.length / count], 'u32');
  const draws = graph.input('draws', [count, arrays.draws.length / count]);
  const result = graph.one(augment, [pixels, table, draws], attrs);
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [result])), [result]);
  try {
    replay.write(pixels, words);
    replay.write(table, arrays.table);
    replay.write(draws, arrays.draws);
    const [data] = await replay.run();
    return [{ name: 'views', dtype: 'F32', shape: result.shape, data: data as Float32Array }];
  } finally {
    replay.destroy();
  }
}

function readViews(tensors: ReadonlyMap<string, NamedArray>, count: number, image: ImageSize): ViewParameters[] {
  const get = <D extends Dtype>(name: string, dtype: D, shape: readonly number[]): ArrayOf[D] => {
    const tensor = tensors.get(name);
    if (tensor?.dtype !== dtype || tensor.shape.join() !== shape.join())
      throw malformed(name, `${dtype} [${shape}]`, describe(tensor));
    return tensor.data as ArrayOf[D];
  };
  const crops = get('crop', 'I32', [count, 4]);
  const orders = get('jitter_order', 'I32', [count, 4]);
  const factors = get('jitter', 'F32', [count, 4]);
  const sigma = get('blur', 'F32', [count]);
  const [flip, grey, solarize] = [
    get('flip', 'U8', [count]),
    get('grey', 'U8', [count]),
    get('solarize', 'U8', [count]),
  ];
  return Array.from({ length: count }, (_, i) => {
    const [x = 0, y = 0, width = 0, height = 0] = crops.subarray(4 * i, 4 * i + 4);
    const crop = { x, y, width, height };
    if (!inside(crop, image))
      throw malformed('crop', `inside ${image.width} x ${image.height}`, `row ${i}: ${Object.values(crop)}`);
    const order = [...orders.subarray(4 * i, 4 * i + 4)];
    if ([...order].sort().join() !== '0,1,2,3')
      throw malformed('jitter_order', '0, 1, 2, 3 once each', `row ${i}: ${order}`);
    const blur = sigma[i] ?? 0;
    if (!(blur >= 0 && blur <= SIGMA_LIMIT)) throw malformed('blur', `from 0 to ${SIGMA_LIMIT}`, `row ${i}: ${blur}`);
    const row = factors.subarray(4 * i, 4 * i + 4);
    if (!row.every(Number.isFinite)) throw malformed('jitter', 'finite numbers', `row ${i}: ${row}`);
    const [brightness = 1, contrast = 1, saturation = 1, hue = 0] = row;
    return {
      crop,
      flip: flip[i] !== 0,
      jitter: { brightness, contrast, saturation, hue, order },
      grey: grey[i] !== 0,
      sigma: blur,
      solarize: solarize[i] !== 0,
    };
  });
}

function perChannel(metadata: ReadonlyMap<string, string>, key: 'mean' | 'std', channels: number): number[] {
  const text = metadata.get(key);
  const numbers = text?.split(',').map(Number) ?? [];
  if (numbers.length !== channels || !numbers.every((n) => Number.isFinite(n) && (key === 'mean' || n > 0)))
    throw malformed(key, `${channels} numbers with commas between them`, `${text}`);
  return numbers;
}

function describe(tensor: NamedArray | undefined): string {
  return tensor ? `${tensor.dtype} [${tensor.shape}]` : 'nothing of that name';
}

function malformed(where: string, expected: string, got: string): SopError {
  return new SopError(ExitCode.data, {
    what: 'malformed input of debug augment',
    where,
    why: `expected ${expected}, got ${got}`,
    fix: 'sop-gpu debug augment --help lists tensors and settings of the file',
  });
}
