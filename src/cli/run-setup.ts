import { resolve } from 'node:path';
import { crc32, hexCrc } from '../data/crc32.js';
import { bytesOf } from '../data/dtype.js';
import { readSafetensorsFile } from '../data/node/files.js';
import { ExitCode, SopError } from '../errors.js';
import { type InitialFrom, initFrom, initLines } from '../eval/init.js';
import { mebibytes } from '../plan/binding-limit.js';
import { describePlan, type PlanReport } from '../plan/report.js';
import { studentSpecs } from '../sop/networks.js';
import { type SetupProgress, Trainer } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import { besideTheStep, HOST_STATE } from './beside-memory.js';
import { packageVersions } from './doctor.js';
import { availableMemory } from './host-memory.js';
import { CountProgress } from './progress.js';
import { type Progress, restore } from './run-checkpoints.js';
import { readEnvironment, writeEnvironment, writeRunConfig } from './run-folder.js';
import { describeLength, tellPlan } from './run-report.js';
import { Interrupted } from './signals.js';
import type { TrainSetup } from './train-setup.js';

/** A trainer with the state that a run begins or goes on with. */
export interface PreparedRun {
  readonly trainer: Trainer;
  readonly progress: Progress;
  /** The step that the checkpoint `last` holds; null without one. */
  readonly lastStep: number | null;
}

/** Says what will happen, compiles, and gives the trainer its state: that of the checkpoint, of `--init`, or a fresh one. */
export async function prepareRun(setup: TrainSetup, training: Training): Promise<PreparedRun> {
  const { config, splits, run, resume, gpu, printer } = setup;
  printer.line(`run      ${describeLength(training, splits.train.count)}`);
  const report = describePlan(training.plan, besideTheStep(training, splits.train.count + (splits.test?.count ?? 0)));
  tellPlan(printer, training, report);
  checkMemory(training, report);
  const init = resume ? undefined : setup.init && resolve(setup.init);
  const initial = init === undefined ? undefined : await readInit(init, training);
  const trainer = await createTrainer(setup, training);
  try {
    // Only now: a run that did not fit leaves no folder that would have to be removed before the next try. The settings come
    // last: a run that is resumed has them, and so all that was written before.
    if (!resume) {
      const { description: adapter, target } = gpu;
      const { precision: used } = training.shape;
      const versions = packageVersions();
      const from = { init: initial?.path ?? null, init_crc32: initial?.checksum ?? null };
      await writeEnvironment(run, { adapter, target, precision: used, versions, ...from });
      await writeRunConfig(run, config, process.argv.slice(2).join(' '));
    }
    const restored = resume ? await restore(setup, trainer) : null;
    if (restored) return { trainer, ...restored };
    const first = initial ?? (resume ? await rememberedInit(setup, training) : undefined);
    if (resume) {
      const from = first ? `, with the weights of ${first.path}` : '';
      printer.warn(`the run was stopped before its first checkpoint; it begins anew${from}`);
    }
    if (first) {
      trainer.begin(first.weights.weights);
      printer.lines(initLines(first.weights, first.path));
    }
    const progress = { step: 0, elapsed: 0, best: Number.NaN, teacherEntropy: Number.NaN, unused: [] };
    return { trainer, progress, lastStep: null };
  } catch (error) {
    trainer.destroy();
    throw error;
  }
}

interface Init {
  readonly path: string;
  readonly weights: InitialFrom;
  /** Of names and values, 8 hexadecimal digits. */
  readonly checksum: string;
}

/** `--init`: first weights from a file. */
async function readInit(path: string, training: Training): Promise<Init> {
  const { tensors } = await readSafetensorsFile(path);
  const weights = initFrom(tensors, studentSpecs(training.shape.network), path);
  let crc = 0;
  for (const [name, values] of weights.weights) {
    crc = crc32(bytesOf(values), crc32(new TextEncoder().encode(name), crc));
  }
  return { path, weights, checksum: hexCrc(crc) };
}

/**
 * A run that was stopped before its first checkpoint begins with the weights that it was started with; any other has them in
 * its checkpoint.
 *
 * @throws SopError 66 where their file is gone, 78 where it holds others now
 */
async function rememberedInit({ run }: TrainSetup, training: Training): Promise<Init | undefined> {
  const { init: path, init_crc32: checksum } = await readEnvironment(run);
  if (typeof path !== 'string') return undefined;
  const init = await readInit(path, training);
  if (init.checksum === checksum) return init;
  throw new SopError(ExitCode.config, {
    what: 'the weights to begin with have changed',
    where: path,
    why: 'they are not those that the run was started with',
    fix: 'put that file back, or start a new run in another folder',
  });
}

/** @throws Interrupted where a signal came: compiling takes minutes on some machines */
async function createTrainer({ gpu, printer, stop }: TrainSetup, training: Training): Promise<Trainer> {
  const started = performance.now();
  const lines = {
    compile: new CountProgress('shaders compiled', printer),
    'warm up': new CountProgress('shaders warmed up', printer),
  };
  const progress: SetupProgress = (stage, done, total) => {
    if (stop.signal) throw new Interrupted();
    lines[stage].update(done, total);
  };
  try {
    const trainer = await Trainer.create(gpu, training, progress);
    printer.line(`compiled in ${((performance.now() - started) / 1000).toFixed(1)} s`);
    return trainer;
  } finally {
    for (const line of Object.values(lines)) line.stop();
  }
}

/** Groups of `describePlan` that the size of the model decides, not that of a batch. */
const ofTheModel: ReadonlySet<string> = new Set(['weights', 'gradients', 'moments', 'teacher', HOST_STATE]);

/** Software adapters hand out memory that the machine does not have, and die when it is touched: refused before step 1. */
function checkMemory({ plan }: Training, { memory: { total, groups } }: PlanReport): void {
  const available = availableMemory();
  if (plan.target.kind === 'gpu' || total <= available) return;
  const [[group, most] = ['', 0]] = groups;
  throw new SopError(ExitCode.unavailable, {
    what: 'the step does not fit into memory',
    where: plan.target.name,
    why: `it needs ${mebibytes(total)} MiB, most for ${group} (${mebibytes(most)} MiB), and ${mebibytes(available)} MiB are free`,
    fix: ofTheModel.has(group)
      ? 'lower model.width, model.depth or head.hidden'
      : group === 'memories'
        ? 'lower sop.cls.memory and sop.patch.memory'
        : 'lower --batch-size, or set train.checkpoint_blocks=true',
  });
}
