import { imagesPerStep } from '../config/schema.js';
import type { Evaluation } from '../eval/evaluator.js';
import { costOf } from '../graph/op.js';
import { counted } from '../numbers.js';
import { type PlanReport, planSummary, si } from '../plan/report.js';
import { stepsPerEpoch } from '../sop/feed.js';
import { runClock, type StepRecord } from '../sop/loop.js';
import { describeBatches, describePrecision, type Training } from '../sop/training.js';
import type { Printer } from './printer.js';
import type { TrainProgressState } from './progress.js';

/** What a run says of its steps and evaluations to people. */

/** @param elapsed seconds of training so far */
export function progressState(
  record: StepRecord,
  rate: number,
  { totalSteps, totalSeconds }: ReturnType<typeof runClock>,
  elapsed: number,
): TrainProgressState {
  return {
    step: record.step,
    steps: totalSteps ?? undefined,
    fraction: totalSteps === null ? elapsed / (totalSeconds ?? 1) : record.step / totalSteps,
    lossCls: record.lossCls,
    lossPatch: record.lossPatch,
    imagesPerSecond: rate,
  };
}

export function describeEvaluation(step: number, { comparison, spread }: Evaluation): string {
  const knn = comparison
    ? Object.entries(comparison.knn.top1)
        .map(([k, value]) => `k=${k} ${value.toFixed(2)} %`)
        .join(', ')
    : 'without classes to tell apart';
  return `step ${step}  k-NN ${knn}  feature std ${spread.featureStd.toFixed(3)}  effective rank ${spread.effectiveRank.toFixed(1)}`;
}

/** What a step takes and how it is computed: `train` says before step 1 what `plan` says. */
export function tellPlan(printer: Printer, training: Training, report: PlanReport): void {
  const { graph, searches } = training;
  printer.lines(planSummary(report));
  printer.line(describeBatches(training));
  const again = [...graph.repeats].reduce((sum, node) => sum + costOf(node).flops, 0);
  if (again > 0)
    printer.line(`recomputed  ${si(again)}FLOP of the forward pass once more, which the work does not count`);
  const precision = describePrecision(training);
  if (precision?.refused) printer.warn(precision.text);
  else if (precision) printer.line(`precision   ${precision.text}`);
  for (const line of searches) printer.line(`search      ${line}`);
}

/** Length of the run for people. */
export function describeLength({ config }: Training, count: number): string {
  const perEpoch = stepsPerEpoch(count, config);
  const { totalSteps, totalSeconds } = runClock(config, perEpoch);
  if (totalSteps === null) return counted((totalSeconds ?? 0) / 60, 'minute');
  const size = `${counted(totalSteps, 'step')} of ${counted(imagesPerStep(config), 'image')}`;
  return `${size}, ${(totalSteps / perEpoch).toPrecision(3)} epochs`;
}
