import type { Engine, ImageEncoder, ImageSet, TrainingOptions, TrainingRun } from '../../src/index.js';
import type { History } from './history.js';
import { Looker } from './looker.js';
import type { FromWorker, StepPoint } from './protocol.js';

/** Looking takes at most this share of the time. */
const LOOKING = 0.1;
/** Steps between two looks at least. */
const LOOK_STEPS = 10;
/** Milliseconds between two messages about steps. */
const REPORT_MS = 150;

/** A training that is watched: steps, a look, steps again. */
export class LiveRun {
  readonly looker: Looker;
  private nextLook: number;
  private unreported: StepPoint[] = [];
  private reportedAt = 0;

  private constructor(
    readonly run: TrainingRun,
    readonly history: History,
    private readonly post: (message: FromWorker) => void,
  ) {
    this.looker = new Looker(run.data);
    this.nextLook = run.step;
  }

  /** Compiles the run, tells how far that has come, and shows its history. For errors see `TrainingRun.create`. */
  static async begin(
    engine: Engine,
    data: ImageSet,
    options: Pick<TrainingOptions, 'settings' | 'checkpoint'>,
    history: History,
    post: (message: FromWorker) => void,
  ): Promise<LiveRun> {
    const words = { compile: 'Compiling shaders', 'warm up': 'Trying them out' };
    const run = await engine.train({
      ...options,
      data,
      watched: true,
      onProgress: (stage, done, total) => post({ type: 'progress', what: words[stage], done, total }),
    });
    history.cut(run.step);
    post({ type: 'history', points: history.points(), looks: history.looks() });
    return new LiveRun(run, history, post);
  }

  get step(): number {
    return this.run.step;
  }

  /** Trains until a look is due or `signal` says so; looks where it is due. */
  async advance(signal: AbortSignal, onStep: () => void): Promise<void> {
    const { run } = this;
    await run.run({
      steps: Math.max(1, this.nextLook - run.step),
      signal,
      onStep: (record) => {
        this.unreported.push(this.history.addStep(record));
        if (performance.now() - this.reportedAt > REPORT_MS) this.report();
        onStep();
      },
    });
    this.report();
    if (!run.finished && run.step >= this.nextLook) await this.look();
  }

  /** Measures and pictures of the model as it is; nothing where this step was looked at before. */
  async look(): Promise<void> {
    const { run, looker } = this;
    if (looker.lookedAt === run.step) return;
    const started = performance.now();
    const { look, evaluation } = await looker.look(run);
    const seconds = (performance.now() - started) / 1000;
    this.history.addEvaluation(run.step, run.lastRecord?.teacherEntropy ?? Number.NaN, evaluation);
    this.post({ type: 'look', look });
    const perStep = run.lastRecord?.seconds ?? seconds;
    this.nextLook = run.step + Math.max(LOOK_STEPS, Math.ceil(seconds / LOOKING / perStep));
  }

  encoder(): Promise<ImageEncoder> {
    return this.run.currentEncoder();
  }

  async weights(): Promise<{ readonly name: string; readonly bytes: Uint8Array }> {
    return { name: `teacher-${this.step}.safetensors`, bytes: await this.run.exportWeights() };
  }

  destroy(): Promise<void> {
    return this.run.destroy();
  }

  private report(): void {
    this.reportedAt = performance.now();
    if (this.unreported.length > 0) this.post({ type: 'steps', points: this.unreported });
    this.unreported = [];
  }
}
