import { basename, extname, resolve } from 'node:path';
import type { ImageSet } from '../data/dataset.js';
import { writeNpyFile, writeSafetensorsFile } from '../data/node/files.js';
import type { NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import { Encoder } from '../eval/encoder.js';
import { modelMetadata } from '../eval/export.js';
import { encoderBatch, setFeatures } from '../eval/features.js';
import type { Outcome } from './command.js';
import { formatFor } from './knn-rows.js';
import { openDevice } from './open-device.js';
import { openImages } from './open-images.js';
import { type CommonOptions, configOfKeys } from './options.js';
import { checkCreatable, writeJson } from './output-file.js';
import type { Printer } from './printer.js';
import { CountProgress, formatRate } from './progress.js';
import type { StopRequest } from './signals.js';
import { SkippedImages } from './skipped-images.js';
import { type WeightsOptions, weightsFrom } from './weights-source.js';

export interface EmbedOptions extends WeightsOptions {
  readonly data: string;
  readonly onBadImage?: string | undefined;
  readonly split: 'train' | 'test' | undefined;
  readonly output: string;
}

/**
 * `sop-gpu embed`: features of a set, f32 [images, width], as they leave the final norm (not L2-normalised). Beside
 * `x.npy` or `x.safetensors` lies `x.json`: for each row its file and label.
 */
export async function embedCommand(
  options: EmbedOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const { output } = options;
  const extension = extname(output);
  if (extension !== '.npy' && extension !== '.safetensors') {
    const why = `features are written as .npy or .safetensors, got ${extension || 'no ending'}`;
    throw new SopError(ExitCode.usage, {
      what: 'unknown format',
      where: `--output ${output}`,
      why,
      fix: 'name it features.npy',
    });
  }
  const beside = `${output.slice(0, -extension.length)}.json`;
  for (const path of [output, beside]) await checkCreatable(path);
  if (common.json !== undefined && resolve(common.json) === resolve(beside)) {
    const why = 'file names and labels go there';
    throw new SopError(ExitCode.usage, {
      what: '--json and --output share a file',
      where: beside,
      why,
      fix: 'give --json another name',
    });
  }
  const loaded = await weightsFrom(options, printer);
  const skipped = new SkippedImages(printer);
  const { set, train } = await openSplit(options, printer, skipped);
  const format = await formatFor(loaded, train);
  const gpu = await openDevice(common, stop);
  try {
    const encoder = await Encoder.create(gpu, loaded, encoderBatch(loaded.vit, gpu.target, set.count));
    encoder.load(loaded.weights);
    const progress = new CountProgress('images', printer);
    const started = performance.now();
    const features = await setFeatures(encoder, set, format, (done) => progress.update(done, set.count)).finally(() => {
      progress.stop();
      encoder.destroy();
    });
    const rate = (1000 * set.count) / (performance.now() - started);
    const shape = [set.count, encoder.width];
    if (extension === '.npy') await writeNpyFile(output, features, shape);
    else await writeSafetensorsFile(output, arrays(features, shape, set), modelMetadata(loaded));
    await writeJson(beside, { ...describe(set, output, shape), skipped: skipped.list });
    printer.line(`${output}: ${shape.join(' x ')} features, ${formatRate(rate)} images/s on ${gpu.target.name}`);
    printer.line(`${beside}: ${set.files ? 'file names' : 'no file names'}, ${set.labels ? 'labels' : 'no labels'}`);
    const result = {
      images: set.count,
      width: encoder.width,
      output,
      names: beside,
      images_per_s: rate,
      skipped: skipped.list,
      adapter: gpu.target.name,
    };
    return { result };
  } finally {
    await gpu.close();
  }
}

/** The images to embed, and the training set, whose statistics normalise grey images. */
async function openSplit(
  options: EmbedOptions,
  printer: Printer,
  skipped: SkippedImages,
): Promise<{ set: ImageSet; train: ImageSet }> {
  const { data, split } = options;
  const { data: asked } = await configOfKeys(options, ['data.on_bad_image']);
  const images = { onBadImage: asked.on_bad_image, standIn: false };
  const { train, test } = await openImages(data, images, printer, skipped);
  if (split === 'test' && !test) {
    const why = 'the set has one part only';
    throw new SopError(ExitCode.noInput, { what: 'no test images', where: data, why, fix: 'leave --split out' });
  }
  if (split === undefined && test) printer.line(`${train.name}: the training images; --split test for the others`);
  return { set: split === 'test' && test ? test : train, train };
}

function arrays(features: Float32Array, shape: readonly number[], { labels }: ImageSet): NamedArray[] {
  const named: NamedArray[] = [{ name: 'features', dtype: 'F32', shape, data: features }];
  if (labels) named.push({ name: 'labels', dtype: 'I32', shape: [labels.length], data: labels });
  return named;
}

function describe({ name, files, labels, classes }: ImageSet, output: string, shape: readonly number[]) {
  return { features: basename(output), shape, set: name, classes, labels: labels ? [...labels] : null, files };
}
