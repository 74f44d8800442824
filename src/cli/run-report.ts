import { imagesPerStep } from '../config/schema.js';
import type { Evaluation } from '../eval/evaluator.js';
import { stepsPerEpoch } from '../sop/feed.js';
import { runClock, type StepRecord } from '../sop/loop.js';
import type { Training } from '../sop/training.js';
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
    : 'no labels';
  return `step ${step}  k-NN ${knn}  feature std ${spread.featureStd.toFixed(3)}  effective rank ${spread.effectiveRank.toFixed(1)}`;
}

/** Length of the run for people. */
export function describeLength({ config }: Training, count: number): string {
  const perEpoch = stepsPerEpoch(count, config);
  const { totalSteps, totalSeconds } = runClock(config, perEpoch);
  if (totalSteps === null) return `${(totalSeconds ?? 0) / 60} minutes`;
  return `${totalSteps} steps of ${imagesPerStep(config)} images, ${(totalSteps / perEpoch).toPrecision(3)} epochs`;
}
