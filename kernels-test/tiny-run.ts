import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import * as assert from 'uvu/assert';
import { openImages } from '../src/cli/open-images.js';
import { configFrom } from '../src/cli/options.js';
import { Printer } from '../src/cli/printer.js';
import { prepareRunFolder, runFolder } from '../src/cli/run-folder.js';
import type { TrainingOutcome } from '../src/cli/run-training.js';
import { watchSignals } from '../src/cli/signals.js';
import { trainInFolder } from '../src/cli/train.js';
import type { TrainSetup } from '../src/cli/train-setup.js';
import { decodeSafetensors } from '../src/data/safetensors.js';
import { withStatistics } from '../src/engine/run.js';
import type { Gpu } from '../src/gpu/device.js';
import { numbers, writeTree } from './data-support.js';

/** The smallest training there is, and what it leaves behind: for tests of runs, not of learning. */

/** Batches of 8 images of 28 x 28. */
export const settings = [
  ...['model.arch=custom', 'model.width=16', 'model.depth=1', 'model.heads=2', 'model.drop_path=0.1'],
  ...['model.patch_size=14', 'model.image_size=28', 'model.local_size=14', 'mask.ratio=0.5', 'views.local_count=2'],
  ...['head.hidden=16', 'head.layers=2', 'head.out=8', 'sop.cls.memory=50', 'sop.cls.anchors=8', 'sop.cls.tasks=1'],
  // [CLS] and patches have the same shapes, hence the same kernels: of those each process compiles its own.
  ...['sop.cls.neighbours=2', 'sop.patch.memory=50', 'sop.patch.anchors=8', 'sop.patch.neighbours=2'],
  ...['optim.warmup=0.1', 'eval.k=1,3'],
  ...['log.every=1', 'train.seed=7'],
];
export interface TinyOptions extends Partial<Pick<TrainSetup, 'evaluator' | 'init' | 'profile' | 'reopen'>> {
  readonly data: string;
  readonly checkpointSeconds?: number;
  /** Flag and value of the run's length. */
  readonly length: { readonly steps?: string; readonly minutes?: string };
  readonly set?: readonly string[] | undefined;
  readonly resume?: boolean | undefined;
  /** Is told every line that the run prints. */
  readonly onLine?: ((line: string) => void) | undefined;
}

type TinySetup = Omit<TrainSetup, 'stop'>;

/** Something that happens when a step's line is printed, before its checkpoint. */
export const atStep =
  (step: number, action: () => void) =>
  (line: string): void => {
    if (line.startsWith(`step ${step}/`)) action();
  };
export const interruptAt = (step: number) => atStep(step, () => process.emit('SIGINT', 'SIGINT'));

/** Everything that a run needs, as the command makes it, but what `train` adds. */
export async function tinySetup(gpu: Gpu, out: string, options: TinyOptions): Promise<TinySetup> {
  const { data, length, checkpointSeconds = 300, set = [], resume = false, onLine, ...rest } = options;
  const printer = new Printer(true, process.stdout, new PassThrough());
  if (onLine) printer.tee(onLine);
  const interval = `train.checkpoint_minutes=${checkpointSeconds / 60}`;
  const keys = new Map([...settings, interval, ...set].map((setting) => [setting.split('=')[0], setting]));
  const asked = await configFrom({ data, ...length, batchSize: '8', set: [...keys.values()] });
  const splits = await openImages(data, { onBadImage: asked.data.on_bad_image }, printer);
  const config = await withStatistics(asked, splits.train);
  const run = await prepareRunFolder(out, { resume });
  return { config, splits, gpu, run, resume, init: undefined, printer, ...rest };
}

/** A run, or a part of one. */
export async function trainTiny(gpu: Gpu, out: string, options: TinyOptions): Promise<TrainingOutcome> {
  return train(await tinySetup(gpu, out, options));
}

/** Trains, and heeds signals meanwhile. */
export async function train(setup: TinySetup): Promise<TrainingOutcome> {
  const stop = watchSignals();
  return trainInFolder({ ...setup, stop }).finally(() => stop.dispose());
}

export type Line = Record<string, unknown> & { readonly step: number };

export function metricsOf(out: string): { stepLines: Line[]; evaluations: Line[] } {
  const lines = readFileSync(runFolder(out).metrics, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  return { stepLines: lines.filter((line) => !('knn' in line)), evaluations: lines.filter((line) => 'knn' in line) };
}

/** Every tensor of `last` bit by bit, and every number of the metrics but the speed. */
export function sameRun(out: string, expected: string): void {
  const [a, b] = [out, expected].map((path) =>
    decodeSafetensors(readFileSync(runFolder(path).lastCheckpoint), path),
  ) as [ReturnType<typeof decodeSafetensors>, ReturnType<typeof decodeSafetensors>];
  assert.is(a.metadata.get('step'), b.metadata.get('step'));
  assert.equal([...a.tensors.keys()], [...b.tensors.keys()]);
  const bits = (data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }) =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const different = [...a.tensors.values()].filter(
    ({ name, data }) => bits(data).compare(bits(b.tensors.get(name)!.data)) !== 0,
  );
  assert.equal(
    different.map(({ name }) => name),
    [],
  );
  const timeless = (path: string) => {
    const { stepLines, evaluations } = metricsOf(path);
    return [...stepLines, ...evaluations].map(({ images_per_s: _, ...line }) => line);
  };
  assert.equal(timeless(out), timeless(expected));
}

/** IDX files of pseudo-random images in three classes, which differ in brightness. */
export function greySet(path: string, count: number): string {
  const next = numbers(count);
  return idxSet(path, count, (i) => 60 * (Math.floor(i / 784) % 3) + next(120));
}

/** IDX files of images of 28 x 28 in three classes. */
export function idxSet(path: string, count: number, pixel: (index: number) => number): string {
  const head = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer).swap32();
  const pixels = Uint8Array.from({ length: count * 784 }, (_, i) => pixel(i));
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
  return writeTree(path, {
    'train-images-idx3-ubyte': Buffer.concat([head(0x803, count, 28, 28), pixels]),
    'train-labels-idx1-ubyte': Buffer.concat([head(0x801, count), labels]),
  });
}
