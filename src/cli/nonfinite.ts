import { join } from 'node:path';
import { loadNewestValid } from '../data/node/checkpoints.js';
import { writeSafetensorsFile } from '../data/node/files.js';
import type { NamedArray } from '../data/safetensors.js';
import { reasonOf, SopError } from '../errors.js';
import { Feed } from '../sop/feed.js';
import { stepFiles } from '../sop/step-file.js';
import type { StepValues } from '../sop/step-inputs.js';
import type { NonFiniteError, Trainer } from '../sop/trainer.js';
import type { TrainSetup } from './train-setup.js';

/**
 * The numbers of the steps since the last checkpoint: together they make the state before any of these steps again. Weights
 * that are not finite are seen when the state that led to them is gone.
 */
export class PastSteps {
  private readonly values = new Map<number, StepValues>();

  /** @param saved step of the last checkpoint: what came before it is not needed any more */
  add(values: StepValues, saved: number | null): void {
    this.values.set(values.step, values);
    for (const step of this.values.keys()) {
      if (step > (saved ?? 0)) break;
      this.values.delete(step);
    }
  }

  /** Goes back to the newest checkpoint and trains up to `step`, with the same bits. */
  async before(step: number, { run, splits }: TrainSetup, trainer: Trainer): Promise<void> {
    await trainer.settled();
    const loaded = await loadNewestValid(run.folder);
    if (!loaded) throw new RangeError('there is no checkpoint');
    const { checkpoint, path } = loaded;
    trainer.load(checkpoint.tensors, path);
    const feed = new Feed(trainer.training, splits.train, checkpoint.step);
    try {
      for (let next = checkpoint.step + 1; next < step; next++) {
        const values = this.values.get(next);
        if (!values) throw new RangeError(`step ${next} cannot be made again`);
        const { writes } = await feed.next();
        await trainer.ready();
        await trainer.step(writes, values, true);
      }
    } finally {
      feed.close();
    }
  }
}

/** The error with the way to replay its step, which is written beside the run as files for `debug step`. */
export async function withStepFile(
  setup: TrainSetup,
  trainer: Trainer,
  past: PastSteps,
  error: NonFiniteError,
): Promise<SopError> {
  const { run, splits, gpu, printer } = setup;
  const { values, written, exitCode, complaint } = error;
  try {
    if (written) await past.before(values.step, setup, trainer);
    const state: NamedArray[] = await trainer.save();
    const files = await stepFiles(gpu, trainer.training, splits.train, state, values);
    const paths: string[] = [];
    for (const [i, { tensors, metadata }] of files.entries()) {
      const part = files.length > 1 ? `-${i + 1}of${files.length}` : '';
      const path = join(run.folder, `nonfinite-step-${values.step}${part}.safetensors`);
      await writeSafetensorsFile(path, tensors, metadata);
      paths.push(path);
    }
    const fix = `${complaint.fix}; sop-gpu debug step --input ${paths[0]} replays it`;
    return new SopError(exitCode, { ...complaint, fix }, { cause: error });
  } catch (failure) {
    printer.warn(`the step could not be written down: ${reasonOf(failure)}`);
    return error;
  }
}
