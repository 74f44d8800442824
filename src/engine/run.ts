import { flattenConfig, formatValue } from '../config/keys.js';
import type { Config } from '../config/schema.js';
import type { Checkpoint } from '../data/checkpoint.js';
import type { ImageSet } from '../data/dataset.js';
import { fingerprint } from '../data/fingerprint.js';
import type { NamedArray } from '../data/safetensors.js';
import { channelStatistics, perChannel } from '../data/statistics.js';
import { ExitCode, SopError } from '../errors.js';
import type { Evaluation } from '../eval/evaluator.js';
import { IMAGENET } from '../eval/weights.js';
import type { Gpu } from '../gpu/device.js';
import type { Target } from '../gpu/target.js';
import { bindingLimit } from '../plan/binding-limit.js';
import type { StepRecord } from '../sop/loop.js';
import { isListName } from '../sop/neighbour-lists.js';
import type { Trainer } from '../sop/trainer.js';
import type { DataShape, Training } from '../sop/training.js';

/** What a run writes and needs wherever it runs: the command line and pages share it, so that each reads the other's files. */

/** Fills in `data.mean` and `data.std`: ImageNet's for colour, the training set's own for grey. */
export async function withStatistics(config: Config, train: ImageSet): Promise<Config> {
  const { mean, std } = config.data;
  if (mean !== null && std !== null) return config;
  const own = train.channels === 1 ? await channelStatistics(train) : IMAGENET;
  return { ...config, data: { ...config.data, mean: mean ?? [...own.mean], std: std ?? [...own.std] } };
}

/** What a step must know of the training set. Sets that fit into one binding stay on the device. */
export function dataShape(config: Config, train: ImageSet, gpu: Pick<Gpu, 'target'>): DataShape {
  const bytes = train.resident?.pixels.byteLength ?? Number.POSITIVE_INFINITY;
  const fits = bytes <= bindingLimit(gpu.target);
  return {
    channels: train.channels,
    mean: perChannel(config.data.mean ?? [], train.channels),
    std: perChannel(config.data.std ?? [], train.channels),
    residentBytes: fits ? bytes : null,
  };
}

/** What a reader of the weights must know: the settings of the model and of its images. */
export function runMetadata({ config, data }: Training): Map<string, string> {
  const wanted = [...flattenConfig(config)].filter(([key, value]) => /^(model|head)\./.test(key) && value !== null);
  return new Map([
    ...wanted.map(([key, value]) => [key, formatValue(value)] as const),
    ['model.channels', String(data.channels)],
    ['data.mean', data.mean.join(', ')],
    ['data.std', data.std.join(', ')],
  ]);
}

/** What a checkpoint says of the run so far. @param elapsed seconds of training */
export function progressMetadata(elapsed: number, data: ImageSet, { target }: Pick<Gpu, 'target'>) {
  return [
    ['elapsed', String(elapsed)],
    [fingerprintKey, fingerprint(data)],
    ['adapter', target.name],
  ] as const;
}

const fingerprintKey = 'data.fingerprint';

/**
 * What of a checkpoint `target` goes on with. Lists of neighbours hold similarities, whose last bits each adapter rounds in its
 * own way: those of another one would stand in a wrong order among its own, so they are left out, and found anew.
 */
export function stateFor(
  { metadata, tensors }: Pick<Checkpoint, 'metadata' | 'tensors'>,
  target: Pick<Target, 'name'>,
): ReadonlyMap<string, NamedArray> {
  if (metadata.get('adapter') === target.name) return tensors;
  return new Map([...tensors].filter(([name]) => !isListName(name)));
}

/**
 * @param metadata of a checkpoint
 * @param instead what to do without the images that it was made with
 * @throws SopError 78 where the run began with other images
 */
export function checkSameImages(metadata: ReadonlyMap<string, string>, data: ImageSet, instead: string): void {
  if (metadata.get(fingerprintKey) === fingerprint(data)) return;
  throw new SopError(ExitCode.config, {
    what: 'the training set has changed',
    where: data.name,
    why: 'it is not the one that the run began with',
    fix: `give the same images, or ${instead}`,
  });
}

/** The teacher's backbone under timm's names, and its metadata: what `export/teacher.safetensors` holds. */
export async function teacherBackbone(
  trainer: Trainer,
  step: number,
): Promise<{ readonly tensors: readonly NamedArray[]; readonly metadata: ReadonlyMap<string, string> }> {
  const tensors = (await trainer.teacherWeights()).filter(({ name }) => !name.startsWith('head.'));
  const metadata = new Map([...runMetadata(trainer.training), ['step', String(step)], ['network', 'teacher']]);
  return { tensors, metadata };
}

/** One line of `metrics.jsonl`. */
export type MetricsLine = { readonly step: number } & Readonly<Record<string, unknown>>;

/** The line of a step in `metrics.jsonl`. Numbers of a step that was skipped may be null; it then says why. */
export function metricsLine(record: StepRecord): MetricsLine {
  const { values, lossScale } = record;
  const skipped = record.skipped ?? lossScale?.overflow ?? null;
  return {
    step: record.step,
    epoch: record.epoch,
    loss: record.loss,
    loss_cls: record.lossCls,
    loss_patch: record.lossPatch,
    grad_norm: record.gradNorm,
    param_norm: record.paramNorm,
    update_norm: record.updateNorm,
    lr: values.lr,
    weight_decay: values.weightDecay,
    momentum: values.momentum,
    images_per_s: record.images / record.seconds,
    ...(lossScale !== null && { loss_scale: lossScale.scale, skipped_steps: lossScale.skippedSteps }),
    ...(record.recomputedLists !== null && { recomputed_lists: record.recomputedLists }),
    ...(skipped !== null && { skipped }),
  };
}

/** The line of an evaluation; `knn` is null where there are no labels. */
export function evaluationLine(
  { step, epoch, teacherEntropy }: Pick<StepRecord, 'step' | 'epoch' | 'teacherEntropy'>,
  { comparison, spread }: Evaluation,
): MetricsLine {
  return {
    step,
    epoch,
    knn: comparison?.knn.top1 ?? null,
    feature_std: spread.featureStd,
    effective_rank: spread.effectiveRank,
    teacher_entropy: teacherEntropy,
  };
}
