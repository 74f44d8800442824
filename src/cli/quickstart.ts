import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { imagesPerStep } from '../config/schema.js';
import { subset } from '../data/dataset.js';
import { lockFolder } from '../data/node/run-lock.js';
import { dataShape, withStatistics } from '../engine/run.js';
import { Evaluator, type Protocol } from '../eval/evaluator.js';
import { type Comparison, standardError } from '../eval/knn.js';
import type { Gpu } from '../gpu/device.js';
import type { TargetKind } from '../gpu/target.js';
import { initialWeights } from '../sop/initialize.js';
import { networkShape } from '../sop/setup.js';
import type { Outcome } from './command.js';
import { contactSheet } from './contact-sheet.js';
import { openDevice } from './open-device.js';
import { openImages } from './open-images.js';
import { type CommonOptions, configFrom } from './options.js';
import type { Printer } from './printer.js';
import { formatDuration, formatRate } from './progress.js';
import { prepareRunFolder, TrainLog } from './run-folder.js';
import type { StopRequest } from './signals.js';
import { table } from './table.js';
import { trainInFolder } from './train.js';

/** First images of the set's two parts: a standard error of one point. */
const GALLERY = 5000;
const QUERIES = 2000;

/** Minutes of training that leave room for everything else within 5 minutes on lavapipe and 10 on SwiftShader. */
const MINUTES: Readonly<Record<TargetKind, number>> = { lavapipe: 3.2, swiftshader: 5.5, gpu: 2 };

/** Queries on the contact sheet, and neighbours of each. */
const SHEET_ROWS = 10;
const SHEET_NEIGHBOURS = 5;

/** `sop-gpu quickstart`: a small ViT on Fashion-MNIST, what it learned as a table, and as a picture. */
export async function quickstartCommand(
  options: { readonly minutes: number | undefined },
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const preset = { preset: 'quickstart', data: 'fashion-mnist' };
  const { model } = await configFrom(preset);
  const gpu = await openDevice(common, stop, model.width);
  const minutes = options.minutes ?? MINUTES[gpu.target.kind];
  const asked = await configFrom({ ...preset, minutes: String(minutes) });
  printer.line(
    'Self-supervised pre-training of a small Vision Transformer by Self-Organizing Prototypes: no labels are used.',
  );
  const splits = await openImages('fashion-mnist', { onBadImage: asked.data.on_bad_image }, printer);
  const config = await withStatistics(asked, splits.train);
  const first = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
  const queries = splits.test ?? splits.train;
  const protocol: Protocol = {
    gallery: subset(splits.train, first(GALLERY)),
    queries: subset(queries, first(QUERIES)),
    k: config.eval.k,
  };

  const folder = await freshFolder(join('runs', 'quickstart'));
  const lock = await lockFolder(folder);
  const run = await prepareRunFolder(folder, { resume: false });
  const log = new TrainLog(run.log);
  const untee = printer.tee(log.line);
  try {
    const evaluator = await makeEvaluator(gpu, config, splits.train.channels, protocol);
    const untrained = (
      await evaluator.evaluate(initialWeights(networkShape(config, splits.train.channels), config.train.seed))
    ).comparison;
    const pixels = await evaluator.evaluatePixels();
    const trained = await trainInFolder({
      config,
      splits,
      gpu,
      run,
      lock,
      resume: false,
      init: undefined,
      printer,
      stop,
      evaluator,
      brief: true,
    });
    const after = trained.evaluation?.comparison;
    if (!untrained || !pixels || !after) return trained;

    const sheet = join(folder, 'neighbours.png');
    await drawSheet(sheet, protocol, untrained, after, gpu);
    const images = trained.steps * imagesPerStep(config);
    const knn = { untrained: untrained.knn.top1, trained: after.knn.top1, pixels: pixels.knn.top1 };
    printer.line();
    printer.line(`k-NN top-1 in percent, ${GALLERY} images in the gallery, ${QUERIES} queries, 10 classes`);
    printer.lines(resultTable(config.eval.k, knn));
    printer.line();
    printer.line(
      `${images} images in ${formatDuration(trained.seconds)}, ${formatRate(images / trained.seconds)} images/s, on ${gpu.target.name}`,
    );
    printer.line(`neighbours before and after training: ${sheet}`);
    const result = {
      adapter: gpu.target.name,
      images,
      minutes: trained.seconds / 60,
      images_per_s: images / trained.seconds,
      knn,
    };
    return { result: { ...result, picture: sheet, run: folder } };
  } finally {
    untee();
    log.close();
    lock.release();
    await gpu.close();
  }
}

async function makeEvaluator(
  gpu: Gpu,
  config: Awaited<ReturnType<typeof configFrom>>,
  channels: 1 | 3,
  protocol: Protocol,
): Promise<Evaluator> {
  const { mean, std } = dataShape(config, protocol.gallery, gpu);
  return Evaluator.create(
    gpu,
    networkShape(config, channels),
    { channels, size: config.model.image_size, mean, std },
    protocol,
  );
}

/** The folder, or the first of folder-2, folder-3, ... that does not exist: a second quickstart overwrites nothing. */
async function freshFolder(folder: string): Promise<string> {
  for (let number = 1; ; number++) {
    const path = number === 1 ? folder : `${folder}-${number}`;
    if ((await stat(path).catch(() => null)) === null) return path;
  }
}

type Accuracies = Readonly<Record<string, number>>;

/** Rows untrained, trained, pixels; a column for each k, with the standard error. */
function resultTable(
  ks: readonly number[],
  knn: Readonly<Record<'untrained' | 'trained' | 'pixels', Accuracies>>,
): string[] {
  const row = (name: string, accuracies: Accuracies): string[] => [
    name,
    ...ks.map((k) => {
      const value = accuracies[String(k)] ?? Number.NaN;
      return `${value.toFixed(2)} +- ${standardError(value, QUERIES).toFixed(2)}`;
    }),
  ];
  return table(
    ['', ...ks.map((k) => `k = ${k}`)],
    [row('untrained encoder', knn.untrained), row('trained encoder', knn.trained), row('raw pixels', knn.pixels)],
  );
}

/** One query of each class, evenly, with its nearest gallery images before and after training. */
async function drawSheet(
  file: string,
  protocol: Protocol,
  before: Comparison,
  after: Comparison,
  gpu: Gpu,
): Promise<void> {
  const { gallery, queries } = protocol;
  if (!queries?.labels) return;
  const rows = Array.from({ length: SHEET_ROWS }, (_, label) => queries.labels!.indexOf(label)).filter(
    (row) => row >= 0,
  );
  const neighboursOf = ({ nearest }: Comparison): number[][] =>
    rows.map((row) => [...nearest.index.subarray(row * nearest.k, row * nearest.k + SHEET_NEIGHBOURS)]);
  await contactSheet(
    {
      title: 'Nearest neighbours of ten queries',
      subtitle: `Fashion-MNIST, trained without labels on ${gpu.target.name}`,
      queries,
      rows,
      gallery,
      blocks: [
        { label: 'before training', neighbours: neighboursOf(before) },
        { label: 'after training', neighbours: neighboursOf(after) },
      ],
    },
    file,
  );
}
