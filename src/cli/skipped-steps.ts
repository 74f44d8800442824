import { skipsOf } from '../config/fields.js';
import type { StepRecord } from '../sop/loop.js';
import { NonFiniteError } from '../sop/trainer.js';
import type { Training } from '../sop/training.js';
import type { Printer } from './printer.js';

/** Steps that changed nothing: says which, and ends the run after more in a row than `train.on_nonfinite` allows. */
export class SkippedSteps {
  private inRow = 0;
  private readonly most: number;

  constructor(
    private readonly training: Training,
    private readonly printer: Printer,
  ) {
    this.most = skipsOf(training.config.train.on_nonfinite);
  }

  /** Whether any may be skipped. */
  get tolerated(): boolean {
    return this.most > 0;
  }

  /** Whether the last step was skipped. */
  get lastSkipped(): boolean {
    return this.inRow > 0;
  }

  /** @throws NonFiniteError after too many in a row */
  observe({ skipped, step, values, lossScale }: StepRecord): void {
    this.inRow = skipped === null ? 0 : this.inRow + 1;
    if (skipped !== null) {
      if (this.inRow > this.most) throw new NonFiniteError(skipped, values, false, this.training.shape.precision);
      this.printer.warn(`step ${step} was skipped: ${skipped} is not finite (${this.inRow} of ${this.most} in a row)`);
    }
    if (lossScale?.overflow) {
      const [before, after] = [2 * lossScale.scale, lossScale.scale];
      this.printer.line(
        `step ${step} was skipped: ${lossScale.overflow} overflows at loss scale ${before}, now ${after}`,
      );
    }
  }
}
