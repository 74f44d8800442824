import type { Config } from '../config/schema.js';
import { checkpointMetadata, readCheckpoint } from '../data/checkpoint.js';
import type { ImageSet } from '../data/dataset.js';
import { decodeSafetensors, encodeSafetensors } from '../data/safetensors.js';
import { ExitCode, SopError, usedAfter } from '../errors.js';
import type { Evaluation } from '../eval/evaluator.js';
import { initFrom } from '../eval/init.js';
import type { LoadedWeights } from '../eval/weights.js';
import type { Gpu } from '../gpu/device.js';
import { Feed } from '../sop/feed.js';
import { type RunClock, runClock, runSteps, type StepRecord } from '../sop/loop.js';
import { studentSpecs } from '../sop/networks.js';
import { traceOnDevice } from '../sop/search-check.js';
import { type SetupProgress, Trainer } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import { Turns } from '../turns.js';
import { evaluateFeatures, type Features, ImageEncoder } from './image-encoder.js';
import {
  checkSameImages,
  dataShape,
  progressMetadata,
  runMetadata,
  stateFor,
  teacherBackbone,
  withStatistics,
} from './run.js';
import { configOf, type Settings, settingsOf } from './settings.js';
import { type BatchPictures, batchPictures, type PrototypePicture, prototypePictures } from './watch.js';

/** What a run learns from, and how it begins. */
export interface TrainingOptions {
  /** Images to learn from; labels, where it has any, serve evaluation alone. */
  readonly data: ImageSet;
  /** Keys as on the command line (`sop-gpu train --help`), over the paper's defaults. Ignored with `checkpoint`. */
  readonly settings?: Settings;
  /** Go on from this checkpoint of `TrainingRun.checkpoint`, with its settings. */
  readonly checkpoint?: Uint8Array;
  /** Begin with this backbone (a safetensors file with timm's names). */
  readonly init?: Uint8Array;
  /** Keep what `views` and `prototypes` show; costs the memory of one batch of views. */
  readonly watched?: boolean;
  readonly onProgress?: SetupProgress;
}

/** How far `TrainingRun.run` goes, and who is told. */
export interface RunOptions {
  /** Steps at most; to the end of the run where left out. */
  readonly steps?: number;
  /** Stops before the next step when aborted: what `pause` is made of. */
  readonly signal?: AbortSignal;
  /** Called after each step, in order, while the next one is running already. */
  readonly onStep?: (record: StepRecord) => void;
}

const settingsKey = 'sop-gpu.settings';

/**
 * A training run that a page drives: some steps, a look, some more steps. Calls wait for each other; while `run` goes on, the
 * others take place between two of its steps.
 */
export class TrainingRun {
  /** Steps done. */
  step = 0;
  /** Seconds of training, all sessions together. */
  elapsed = 0;
  private last: StepRecord | null = null;
  private encoder: ImageEncoder | null = null;
  private readonly turns = new Turns();
  private ended: Promise<void> | null = null;
  private readonly clock: RunClock;

  private constructor(
    private readonly gpu: Gpu,
    readonly data: ImageSet,
    readonly training: Training,
    private readonly trainer: Trainer,
    private readonly feed: Feed,
    private readonly watched: boolean,
  ) {
    this.clock = runClock(training.config, feed.stepsPerEpoch);
  }

  /**
   * Plans, compiles and writes the first state, a function of the settings alone.
   * @throws SopError 78 settings that are wrong, or a checkpoint of other images; 66 fewer images than a batch; 69 a limit
   * or memory that does not suffice; 65 a checkpoint or weights that are damaged or do not fit
   */
  static async create(gpu: Gpu, options: TrainingOptions): Promise<TrainingRun> {
    const { data } = options;
    const saved =
      options.checkpoint && readCheckpoint(decodeSafetensors(options.checkpoint, 'checkpoint'), 'checkpoint');
    if (saved) checkSameImages(saved.metadata, data, 'begin a new run with the weights of the old one (init)');
    const settings = saved ? savedSettings(saved.metadata) : (options.settings ?? {});
    const config = await withStatistics(configOf(settings), data);
    const watched = { watched: options.watched ?? false };
    const training = await traceOnDevice(gpu, config, dataShape(config, data, gpu), watched);
    const init =
      options.init &&
      initFrom(decodeSafetensors(options.init, 'weights').tensors, studentSpecs(training.shape.network), 'weights');
    const feed = new Feed(training, data, saved?.step ?? 0);
    const trainer = await Trainer.create(gpu, training, options.onProgress);
    const run = new TrainingRun(gpu, data, training, trainer, feed, watched.watched);
    try {
      if (saved) {
        trainer.load(stateFor(saved, gpu.target), 'checkpoint');
        run.step = saved.step;
        run.elapsed = Number(saved.metadata.get('elapsed') ?? 0);
      } else if (init) trainer.begin(init.weights);
      for (const write of Feed.residentPixels(training, data)) trainer.write(write);
      return run;
    } catch (error) {
      await run.destroy(); // nobody else could
      throw error;
    }
  }

  /** Every key of the configuration with its value, `data.mean` and `data.std` included. */
  get config(): Config {
    return this.training.config;
  }

  /** Steps of the whole run; null for one that lasts a given time. */
  get totalSteps(): number | null {
    return this.clock.totalSteps;
  }

  /** Whether the run is over: all its steps done, or its minutes used up. */
  get finished(): boolean {
    return this.clock.values(this.step, this.elapsed) === null;
  }

  /**
   * Trains on. Resolves when the last of these steps is done and nothing runs; also when `destroy` stopped it.
   * @throws SopError 64 for a number of steps that is none; 70 where loss or gradients are not finite (nothing of that step was written), 75 for a lost device; what
   * `onStep` throws, after the step that was running is done
   */
  run(options: RunOptions = {}): Promise<void> {
    return this.alone(() => this.trainOn(options), 'long');
  }

  private async trainOn({ steps = Number.POSITIVE_INFINITY, signal, onStep }: RunOptions): Promise<void> {
    if (!(steps >= 0) || (steps % 1 !== 0 && steps < Number.POSITIVE_INFINITY)) {
      const fix = 'give a whole number, or leave it out';
      throw new SopError(ExitCode.usage, { what: 'cannot train', where: 'steps', why: `${steps} are no steps`, fix });
    }
    const { turns } = this;
    const thrown: unknown[] = [];
    let calm = false;
    const end = this.step + steps;
    let started = this.step;
    const options = {
      done: this.step,
      elapsed: this.elapsed,
      barrier: () => {
        calm = turns.wanted;
        return calm;
      },
      stopped: () => (signal?.aborted ?? false) || this.ended !== null || thrown.length > 0 || started++ >= end,
    };
    for await (const record of runSteps(this.trainer, this.feed, this.clock, options)) {
      this.step = record.step;
      this.elapsed += record.seconds;
      this.last = record;
      try {
        if (thrown.length === 0) onStep?.(record);
      } catch (error) {
        thrown.push(error); // the step behind this one is running: it ends before the loop does
      }
      if (calm) await turns.letIn();
    }
    if (thrown.length > 0) throw thrown[0];
  }

  /** The last step that was done in this session. */
  get lastRecord(): StepRecord | null {
    return this.last;
  }

  /** The teacher's backbone as it is now. */
  weights(): Promise<LoadedWeights> {
    return this.alone(() => this.weightsNow());
  }

  private async weightsNow(): Promise<LoadedWeights> {
    const { vit, globalFeature } = this.training.shape.network;
    const named = await this.trainer.teacherWeights();
    const weights = new Map(named.map(({ name, data }) => [name, data as Float32Array]));
    const { mean, std } = this.training.data;
    return { vit, globalFeature, weights, statistics: { mean, std }, step: this.step, notes: [] };
  }

  /** The run's own encoder, with the teacher's weights as they are now; the next call gives it newer ones, `destroy` of the run frees it. */
  currentEncoder(): Promise<ImageEncoder> {
    return this.alone(() => this.encoderNow());
  }

  private async encoderNow(): Promise<ImageEncoder> {
    const weights = await this.weightsNow();
    if (this.encoder) this.encoder.load(weights);
    else this.encoder = await ImageEncoder.create(this.gpu, weights, this.data.count);
    return this.encoder;
  }

  /** Features of `set` under the teacher as it is now. @throws what `ImageEncoder.embed` throws */
  embed(set: ImageSet = this.data): Promise<Features> {
    return this.alone(async () => (await this.encoderNow()).embed(set));
  }

  /**
   * k-NN accuracy, each image against all others, where `set` has at least two classes, and the spread of features.
   * @param features what `embed(set)` gave
   */
  evaluate(features: Features, set: ImageSet = this.data): Promise<Evaluation> {
    return evaluateFeatures(this.gpu, features, set.labels, this.config.eval.k);
  }

  /** The teacher's backbone as a safetensors file, names as in timm: `sop-gpu eval knn --weights` reads it. */
  exportWeights(): Promise<Uint8Array> {
    return this.alone(async () => {
      const { tensors, metadata } = await teacherBackbone(this.trainer, this.step);
      return encodeSafetensors(tensors, metadata, { crc: true });
    });
  }

  /** The whole state: `checkpoint` of `TrainingOptions` goes on from it with the same bits. */
  checkpoint(): Promise<Uint8Array> {
    return this.alone(async () => {
      const metadata = checkpointMetadata(this.step, [
        ...runMetadata(this.training),
        ...progressMetadata(this.elapsed, this.data, this.gpu),
        [settingsKey, JSON.stringify(settingsOf(this.config))],
      ]);
      return encodeSafetensors(await this.trainer.save(), metadata, { crc: true });
    });
  }

  /**
   * The first `count` images of the last step's batch, their views and masks; none before the first step of this session.
   * @throws SopError 64 without `watched`
   */
  views(count: number): Promise<BatchPictures> {
    return this.alone(async () => batchPictures(this.trainer, this.feed, this.watchedStep(), count));
  }

  /**
   * `count` self-organizing prototypes of the last step: anchors, support embeddings, contributions; none before the first step
   * of this session.
   * @throws SopError 64 without `watched`
   */
  prototypes(count: number): Promise<PrototypePicture[]> {
    return this.alone(async () => prototypePictures(this.trainer, this.feed, this.watchedStep(), count));
  }

  /** Stops `run` after the step that runs, if it runs, and frees everything on the device. May be called twice. */
  destroy(): Promise<void> {
    this.ended ??= this.turns.take(async () => {
      this.feed.close();
      await this.trainer.settled().catch(() => undefined); // a lost device has nothing to wait for
      this.trainer.destroy();
      this.encoder?.destroy();
    });
    return this.ended;
  }

  /** @throws SopError 64 after `destroy` */
  private async alone<T>(body: () => Promise<T>, length: 'short' | 'long' = 'short'): Promise<T> {
    if (this.ended) throw usedAfter('the training run', 'destroy');
    return length === 'long' ? this.turns.takeLong(body) : this.turns.take(body);
  }

  /**
   * Steps before the last one, whose tensors lie on the device; -1 where there was none: a checkpoint does not hold them.
   * @throws SopError 64 without `watched`: other tensors lie by now where those were that nobody kept
   */
  private watchedStep(): number {
    if (this.watched) return this.last ? this.step - 1 : -1;
    throw new SopError(ExitCode.usage, {
      what: 'nothing to show',
      where: 'watched',
      why: 'the run began without it',
      fix: 'pass watched: true',
    });
  }
}

/** The settings that a checkpoint was written with. */
function savedSettings(metadata: ReadonlyMap<string, string>): Settings {
  const text = metadata.get(settingsKey);
  if (text === undefined) {
    throw new SopError(ExitCode.data, {
      what: 'checkpoint without settings',
      where: 'checkpoint',
      why: 'it was not written by TrainingRun.checkpoint',
      fix: 'go on with `sop-gpu train --resume`, or begin with its weights (init)',
    });
  }
  return JSON.parse(text) as Settings;
}
