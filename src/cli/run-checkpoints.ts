import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type CheckpointName, loadNewestValid, saveCheckpoint } from '../data/node/checkpoints.js';
import { writeSafetensorsFile } from '../data/node/files.js';
import { makeFolder } from '../data/node/folders.js';
import type { NamedArray } from '../data/safetensors.js';
import { checkSameImages, progressMetadata, runMetadata, stateFor, teacherBackbone } from '../engine/run.js';
import { ExitCode, SopError } from '../errors.js';
import { isLossScaleName } from '../sop/loss-scale.js';
import type { Trainer } from '../sop/trainer.js';
import { checkUnedited, definingSettings } from './run-folder.js';
import type { RunMetrics } from './run-metrics.js';
import type { RunPlace } from './run-place.js';
import type { TrainSetup } from './train-setup.js';

/** What a run remembers besides the state of its trainer. */
export interface Progress {
  step: number;
  /** Seconds of training. */
  elapsed: number;
  /** Best k-NN top-1 so far, percent, or best effective rank where there are no labels; NaN before the first evaluation. */
  best: number;
  /** Of the last step, nats: what an evaluation of its state reports; NaN before the first step. */
  teacherEntropy: number;
  /** The scale of the loss, with the steps that it skipped, on an adapter without f16: one that has it goes on with them. */
  readonly unused: readonly NamedArray[];
}

/** Checkpoints in a row that a full disk may cost before the run gives up. */
const FAILURES = 3;

/**
 * Writes checkpoints, and says when the next one is due. Training waits for the state to be read back, never for the disk:
 * files are written while it goes on.
 */
export class Saver {
  private triedAt: number;
  private failures = 0;
  private gaveUp: SopError | null = null;
  private readonly writing = new Map<CheckpointName, Promise<void>>();

  /** @param lastStep the step that `last` holds; null without one */
  constructor(
    private readonly setup: TrainSetup,
    private readonly trainer: Trainer,
    private readonly metrics: RunMetrics,
    private readonly place: RunPlace,
    private readonly progress: Progress,
    private lastStep: number | null,
  ) {
    this.triedAt = progress.elapsed;
  }

  /** The step that `last` holds; null without one. */
  get savedStep(): number | null {
    return this.lastStep;
  }

  due(): boolean {
    return this.progress.elapsed - this.triedAt >= 60 * this.setup.config.train.checkpoint_minutes;
  }

  /** Writes `last` unless it holds this step already, and waits for it. @throws SopError 73, 74; the old one is whole then */
  async saveLast(): Promise<void> {
    await this.settled();
    if (this.lastStep === this.progress.step) return;
    await (await this.begin('last'))();
  }

  /**
   * Reads the state back and begins to write it. In the middle of a run a checkpoint that cannot be written costs a
   * warning; `check` tells when it was too many.
   * @param undo called where it could not be written
   */
  async save(name: CheckpointName, undo?: () => void): Promise<void> {
    if (name === 'last') this.triedAt = this.progress.elapsed;
    await this.writing.get(name);
    const write = await this.begin(name);
    const done = write().then(
      () => {
        this.failures = 0;
      },
      (error: unknown) => {
        undo?.();
        this.failed(error);
      },
    );
    this.writing.set(name, done);
  }

  /** `save('best')` where `score` exceeds that of the one there: what could not be written is none to be exceeded. */
  async saveBest(score: number): Promise<void> {
    await this.writing.get('best');
    const { best } = this.progress;
    if (score <= best) return;
    this.progress.best = score;
    await this.save('best', () => {
      this.progress.best = best;
    });
  }

  /** @throws SopError 74 after three failures in a row, and whatever else stopped a file from being written */
  check(): void {
    if (this.gaveUp) throw this.gaveUp;
  }

  /** Waits for the files that are being written; never fails. */
  async settled(): Promise<void> {
    await Promise.all(this.writing.values());
  }

  private failed(error: unknown): void {
    if (this.gaveUp) return; // `last` and `best` may be under way together
    if (!(error instanceof SopError)) {
      this.gaveUp = new SopError(
        ExitCode.internal,
        { what: 'checkpoint failed', where: this.setup.run.checkpoints, why: String(error), fix: 'report this' },
        { cause: error },
      );
      return;
    }
    // The device failed while the file was written: the loop meets that by itself.
    if (error.exitCode !== ExitCode.io && error.exitCode !== ExitCode.cannotCreate) return;
    this.failures++;
    const { what, where, why, fix } = error.complaint;
    const tries = `${this.failures} of ${FAILURES} checkpoints in a row could not be written`;
    if (this.failures >= FAILURES)
      this.gaveUp = new SopError(ExitCode.io, { what, where, why: `${why}; ${tries}`, fix }, { cause: error });
    else this.setup.printer.warn(`${what} (${where}): ${why}; the run goes on, ${tries}; ${fix}`);
  }

  /** Reads the state back; the function returned writes it. */
  private async begin(name: CheckpointName): Promise<() => Promise<void>> {
    const { step, elapsed, best, teacherEntropy, unused } = this.progress;
    const { config, splits, run, gpu, checksum } = this.setup;
    const metadata = new Map([
      ...runMetadata(this.trainer.training),
      ...definingSettings(config),
      ...progressMetadata(elapsed, splits.train, gpu),
      ['best', String(best)],
      ['teacher_entropy', String(teacherEntropy)],
    ]);
    if (checksum !== undefined) metadata.set(checksumKey, checksum);
    const tensors = [...(await this.trainer.save()), ...unused];
    return async () => {
      await this.place.secure();
      // The metrics of a step are safe before its checkpoint is: a run that goes on from it finds them all.
      this.metrics.sync();
      await saveCheckpoint(run.folder, name, step, tensors, metadata, async () => {
        await this.place.secure();
        gpu.check();
      });
      if (name === 'last') this.lastStep = step;
    };
  }
}

/**
 * Loads the newest whole checkpoint of a run that goes on.
 *
 * @returns null where it was stopped before its first one
 * @throws SopError 65 damaged, 66 gone, 78 for other settings or another training set
 */
export async function restore(
  { config, run, splits, gpu, printer, checksum }: TrainSetup,
  trainer: Trainer,
): Promise<{ readonly progress: Progress; readonly lastStep: number | null } | null> {
  const loaded = await loadNewestValid(run.folder);
  if (!loaded) {
    // No step is done before there is a checkpoint: where there are steps, there was one.
    if ((await stat(run.metrics).catch(() => ({ size: 0 }))).size > 0) {
      throw new SopError(ExitCode.noInput, {
        what: 'no checkpoint',
        where: run.checkpoints,
        why: 'it is empty, but metrics.jsonl tells of steps that were done',
        fix: 'restore one from a copy, or start a new run in another folder',
      });
    }
    return null;
  }
  const { checkpoint, name, path, notes } = loaded;
  for (const note of notes) printer.warn(note);
  const { metadata, step } = checkpoint;
  checkUnedited(metadata, config, run.config);
  checkSameImages(metadata, splits.train, 'start a new run with --init');
  checkSameFiles(metadata, checksum, splits.train.name);
  trainer.load(stateFor(checkpoint, gpu.target), path);
  if (metadata.get('adapter') !== gpu.target.name)
    printer.warn(
      `the run began on ${metadata.get('adapter')}: on another adapter it goes on, but not with the same bits`,
    );
  printer.line(`resume   ${path}, after step ${step}`);
  const number = (key: string): number => Number(metadata.get(key) ?? Number.NaN);
  const own = new Set(trainer.entries.map(({ name }) => name));
  const progress = {
    step,
    // NaN would never make a checkpoint due.
    elapsed: number('elapsed') || 0,
    best: number('best'),
    teacherEntropy: number('teacher_entropy'),
    unused: [...checkpoint.tensors.values()].filter(({ name }) => isLossScaleName(name) && !own.has(name)),
  };
  return { progress, lastStep: name === 'last' ? step : null };
}

const checksumKey = 'data.checksum';

/**
 * A set whose pixels are not in memory may have other images under the names of those that the run began with.
 *
 * @param metadata of a checkpoint; older ones have no checksum
 * @throws SopError 78
 */
function checkSameFiles(metadata: ReadonlyMap<string, string>, checksum: string | undefined, where: string): void {
  const before = metadata.get(checksumKey);
  if (before === undefined || checksum === undefined || before === checksum) return;
  throw new SopError(ExitCode.config, {
    what: 'the images have changed',
    where,
    why: 'files of the same names have another content than when the run began',
    fix: 'put the old ones back, or start a new run with --init',
  });
}

/** Writes the teacher's backbone under timm's names. @throws SopError 73, 74 */
export async function exportTeacher(
  { run }: TrainSetup,
  trainer: Trainer,
  place: RunPlace,
  step: number,
): Promise<void> {
  await place.secure();
  await makeFolder(dirname(run.exported));
  const { tensors, metadata } = await teacherBackbone(trainer, step);
  await writeSafetensorsFile(run.exported, tensors, metadata, { crc: true });
}
