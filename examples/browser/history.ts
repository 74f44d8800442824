import { type Evaluation, evaluationLine, metricsLine, type StepRecord } from '../../src/index.js';
import type { LookPoint, StepPoint } from './protocol.js';

type MetricsRecord = { readonly step: number } & Readonly<Record<string, unknown>>;

/** Everything that was measured of a run: the records of `metrics.jsonl`, and what the charts show of them. */
export class History {
  private constructor(private records: MetricsRecord[]) {}

  static empty(): History {
    return new History([]);
  }

  /** Of JSON lines; lines that are none, as the last one of a file that was cut, are left out. */
  static read(bytes: Uint8Array): History {
    const lines = new TextDecoder().decode(bytes).split('\n');
    return new History(lines.flatMap(recordOf));
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return new TextEncoder().encode(this.records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  }

  addStep(record: StepRecord): StepPoint {
    const line = metricsLine(record);
    this.records.push(line);
    return pointOf(line);
  }

  /**
   * What a model is worth after `step` steps; 0 for the untrained one.
   * @param teacherEntropy NaN where no step was done in this session
   */
  addEvaluation(step: number, teacherEntropy: number, evaluation: Evaluation): void {
    const known = this.records.filter((record) => record.step === step);
    if (known.some((record) => 'knn' in record)) return; // a run that goes on is looked at again
    const epoch = Number(known[0]?.['epoch'] ?? 0);
    this.records.push(evaluationLine({ step, epoch, teacherEntropy }, evaluation));
  }

  /** Forgets what came after this step. */
  cut(step: number): void {
    this.records = this.records.filter((record) => record.step <= step);
  }

  points(): StepPoint[] {
    return this.records.filter((record) => 'loss' in record).map(pointOf);
  }

  looks(): LookPoint[] {
    return this.records.filter((record) => 'knn' in record).map(lookOf);
  }
}

function recordOf(line: string): MetricsRecord[] {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'step' in value ? [value as MetricsRecord] : [];
  } catch {
    return [];
  }
}

function pointOf(record: MetricsRecord): StepPoint {
  const number = (key: string): number => Number(record[key] ?? Number.NaN);
  return {
    step: record.step,
    lossCls: number('loss_cls'),
    lossPatch: number('loss_patch'),
    imagesPerSecond: number('images_per_s'),
  };
}

function lookOf(record: MetricsRecord): LookPoint {
  return {
    step: record.step,
    knn: Object.values((record['knn'] ?? {}) as Record<string, number>)[0] ?? null,
    featureStd: Number(record['feature_std']),
    effectiveRank: Number(record['effective_rank']),
  };
}
