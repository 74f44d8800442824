import { evaluationLine } from '../engine/run.js';
import { ExitCode, SopError } from '../errors.js';
import { collapse } from '../eval/collapse.js';
import { type Evaluation, Evaluator, quickProtocol } from '../eval/evaluator.js';
import type { Trainer } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import { CountProgress } from './progress.js';
import type { Progress, Saver } from './run-checkpoints.js';
import type { RunMetrics } from './run-metrics.js';
import { describeEvaluation } from './run-report.js';
import type { TrainSetup } from './train-setup.js';

/** Thrown out of an evaluation where a signal came before it was done. */
class Stopped extends Error {}

/** Measures the teacher of a run now and then: a line of the metrics, the best checkpoint, a word about a collapse. */
export class Evaluations {
  /** Step of the last evaluation in the metrics: none is written twice. */
  private last: number;
  private collapsed = false;

  private constructor(
    private readonly setup: TrainSetup,
    private readonly evaluator: Evaluator,
    private readonly run: {
      readonly trainer: Trainer;
      readonly progress: Progress;
      readonly metrics: RunMetrics;
      readonly saver: Saver;
      readonly stepsPerEpoch: number;
    },
  ) {
    this.last = run.metrics.lastEvaluation;
  }

  static async create(setup: TrainSetup, run: Evaluations['run']): Promise<Evaluations> {
    return new Evaluations(setup, setup.evaluator ?? (await quickEvaluator(setup, run.trainer.training)), run);
  }

  /** Whether one belongs after `step`, by `eval.every_epochs`. */
  due(step: number): boolean {
    const every = this.setup.config.eval.every_epochs * this.run.stepsPerEpoch;
    return every > 0 && step > 0 && step % every === 0 && step > this.last;
  }

  /** Measures the teacher at a barrier, writes the line, keeps the best; null where a signal came before it was done. */
  async evaluate(): Promise<Evaluation | null> {
    const { progress, metrics, saver, stepsPerEpoch } = this.run;
    const { printer, config, splits } = this.setup;
    const { step, teacherEntropy } = progress;
    const recomputed = metrics.lists.summary();
    const result = await this.measure();
    if (result === null) return null;
    // A finished run that is resumed has the line of its last step already.
    const at = { step, epoch: Math.floor((step - 1) / stepsPerEpoch), teacherEntropy };
    if (step > this.last) metrics.append({ ...evaluationLine(at, result), ...recomputed });
    this.last = step;
    printer.line(describeEvaluation(step, result));
    const { recomputed_lists_mean: mean, recomputed_lists_max: most } = recomputed;
    if (mean !== undefined) printer.line(`lists    ${mean.toPrecision(3)} searched anew a step, at most ${most}`);
    const { comparison, spread } = result;
    const score = comparison ? comparison.knn.top1[comparison.knn.bestK]! : spread.effectiveRank;
    await saver.saveBest(score);
    await this.judge(collapse(spread, teacherEntropy, config.sop.cls.anchors, splits.train.count));
    return result;
  }

  /** Frees the evaluator, unless it was the caller's. */
  destroy(): void {
    if (this.evaluator !== this.setup.evaluator) this.evaluator.destroy();
  }

  /** Null where a signal came before it was done. */
  private async measure(): Promise<Evaluation | null> {
    const { printer, stop } = this.setup;
    const named = await this.run.trainer.teacherWeights();
    const weights = new Map(named.map(({ name, data }) => [name, data as Float32Array]));
    const count = new CountProgress('images evaluated', printer);
    try {
      return await this.evaluator.evaluate(weights, (done, total) => {
        if (stop.signal !== null) throw new Stopped();
        count.update(done, total);
      });
    } catch (error) {
      if (error instanceof Stopped) return null;
      throw error;
    } finally {
      count.stop();
    }
  }

  /** A collapse is told once, until it is over; with `train.stop_on_collapse` it ends the run. */
  private async judge(problem: string | null): Promise<void> {
    const { config, printer } = this.setup;
    const where = `step ${this.run.progress.step}`;
    const fix = 'lower optim.lr, raise optim.momentum_teacher or sop.cls.anchors, or go on from an earlier checkpoint';
    if (problem !== null && config.train.stop_on_collapse) {
      await this.run.saver.saveLast();
      throw new SopError(ExitCode.internal, { what: 'training has collapsed', where, why: problem, fix });
    }
    if (problem !== null && !this.collapsed) printer.warn(`training has collapsed (${where}): ${problem}; ${fix}`);
    this.collapsed = problem !== null;
  }
}

/** The evaluator of a run that brings none: some images of its own set, the same ones for the same seed. */
function quickEvaluator({ config, splits, gpu }: TrainSetup, { shape, data }: Training): Promise<Evaluator> {
  const protocol = quickProtocol(splits.train, splits.test, config.eval.k, config.train.seed);
  return Evaluator.create(gpu, shape.network, { ...data, size: config.model.image_size }, protocol);
}
