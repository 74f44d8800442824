import type { Config } from '../config/schema.js';
import type { DataSplits } from '../data/dataset.js';
import { ExitCode, SopError } from '../errors.js';
import { type ComparedLabels, classCount, compareFeatures, severalClasses, standardError } from '../eval/knn.js';
import { counted } from '../numbers.js';
import type { Outcome } from './command.js';
import { type FeatureOptions, featureRows, pixelRows, type Sets } from './knn-rows.js';
import { openDevice } from './open-device.js';
import { openImages } from './open-images.js';
import { type CommonOptions, configOfKeys } from './options.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import type { StopRequest } from './signals.js';
import { SkippedImages } from './skipped-images.js';
import { table } from './table.js';

export interface EvalKnnOptions extends FeatureOptions {
  readonly onBadImage?: string | undefined;
  readonly data: string;
  readonly queries: string | undefined;
  readonly k: readonly number[] | undefined;
  readonly pixels: boolean;
}

/** `sop-gpu eval knn`: weighted k-NN classification with frozen features (the paper's Section 3.1). */
export async function evalKnnCommand(
  options: EvalKnnOptions,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  if (options.untrained && options.pixels) {
    const why = 'pixels need no encoder';
    throw new SopError(ExitCode.usage, {
      what: '--untrained and --pixels are given together',
      where: 'eval knn',
      why,
      fix: 'give one of them',
    });
  }
  const config = await configOfKeys(options, ['data.on_bad_image', 'eval.k']);
  const skipped = new SkippedImages(printer);
  const sets = await openSets(options, config, printer, skipped);
  const gpu = await openDevice(common, stop);
  try {
    const rows = await (options.pixels ? pixelRows(options, sets, printer) : featureRows(options, sets, gpu, printer));
    const leaveOneOut = sets.queries === null;
    const asked = options.k ?? config.eval.k;
    const search = new CountProgress('queries compared', printer);
    const queryCount = (sets.queries ?? sets.gallery).count;
    const { labels, classes } = matchClasses(sets, printer);
    const { knn: result, nearest } = await compareFeatures(gpu, rows, labels, classes, asked, (done) =>
      search.update(Math.floor(done), queryCount),
    ).finally(() => search.stop());
    if (!severalClasses(labels.gallery)) printer.warn('a single class: every answer is right, whatever the features');
    const left = asked.filter((k) => k > nearest.k);
    if (left.length > 0)
      printer.line(`left out: k = ${left.join(', ')}, the gallery has only ${nearest.k} images to vote`);

    const top1 = result.top1[result.bestK] ?? Number.NaN;
    const error = standardError(top1, queryCount);
    const cells = Object.entries(result.top1).map(([k, value]) => [
      k,
      value.toFixed(2),
      (result.top5[k] ?? Number.NaN).toFixed(2),
    ]);
    const galleryClasses = sets.gallery.classes?.length ?? classes;
    const size = `${counted(sets.gallery.count, 'image')}, ${counted(galleryClasses, 'class', 'classes')}`;
    printer.line(`gallery  ${sets.gallery.name}: ${size}`);
    printer.line(
      leaveOneOut
        ? 'queries  the same images, each left out of its own gallery'
        : `queries  ${sets.queries?.name}: ${counted(queryCount, 'image')}`,
    );
    printer.line(`features ${rows.what}`);
    printer.lines(table(['k', 'top-1 %', 'top-5 %'], cells));
    printer.line(
      `best     k = ${result.bestK}: ${top1.toFixed(2)} % (standard error ${error.toFixed(2)}), on ${gpu.target.name}`,
    );
    return {
      result: {
        gallery: sets.gallery.count,
        queries: queryCount,
        top1: result.top1,
        top5: result.top5,
        best_k: result.bestK,
        standard_error: error,
        leave_one_out: leaveOneOut,
        classes: galleryClasses,
        features: options.pixels ? 'pixels' : options.untrained ? 'untrained' : 'trained',
        images_per_s: rows.imagesPerSecond,
        skipped: skipped.list,
        adapter: gpu.target.name,
      },
    };
  } finally {
    await gpu.close();
  }
}

async function openSets(
  { data, queries }: EvalKnnOptions,
  config: Config,
  printer: Printer,
  skipped: SkippedImages,
): Promise<Sets> {
  const images = { onBadImage: config.data.on_bad_image, standIn: false };
  const open = (path: string): Promise<DataSplits> => openImages(path, images, printer, skipped);
  const splits = await open(data);
  const asked = queries === undefined ? undefined : await open(queries);
  const sets = { gallery: splits.train, queries: asked ? (asked.test ?? asked.train) : splits.test };
  // The test images of many published sets come without labels: then the training images are compared with each other.
  if (!asked && sets.queries && !sets.queries.labels && sets.gallery.labels) {
    printer.line(`${sets.queries.name}: no labels, so each gallery image is a query instead`);
    sets.queries = null;
  }
  for (const [set, flag, path] of [
    [sets.gallery, '--data', data],
    [sets.queries, queries === undefined ? '--data' : '--queries', queries ?? data],
  ] as const) {
    if (!set || set.labels) continue;
    const fix = 'put the images into one folder a class';
    throw new SopError(ExitCode.noInput, {
      what: 'no labels',
      where: `${flag} ${path}`,
      why: 'the vote is about classes',
      fix,
    });
  }
  if (!sets.queries && sets.gallery.count < 2) {
    const fix = 'give a larger set, or --queries';
    throw new SopError(ExitCode.noInput, {
      what: 'too few images',
      where: data,
      why: 'one image has no neighbours',
      fix,
    });
  }
  return sets;
}

/**
 * Labels of both sets in the gallery's numbers. Classes go by their names where both sets have names; one that the gallery
 * lacks can never be voted for, and a line says so.
 */
function matchClasses({ gallery, queries }: Sets, printer: Printer): { labels: ComparedLabels; classes: number } {
  const own = gallery.labels ?? new Int32Array();
  const asked = queries?.labels ?? own;
  if (!queries || !gallery.classes || !queries.classes) {
    const classes = Math.max(classCount(own, asked), gallery.classes?.length ?? 0);
    return { labels: { gallery: own, queries: asked }, classes };
  }
  const names = [...gallery.classes];
  const unknown = queries.classes.filter((name) => !names.includes(name));
  names.push(...unknown);
  if (unknown.length > 0)
    printer.warn(`classes without gallery images are never right: ${unknown.slice(0, 8).join(', ')}`);
  const numbers = queries.classes.map((name) => names.indexOf(name));
  return {
    labels: { gallery: own, queries: asked.map((label) => numbers[label] ?? -1) },
    classes: names.length,
  };
}
