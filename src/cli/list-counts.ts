import type { MetricsRecord } from './metrics-file.js';

/** Lists of neighbours that were searched anew since the last evaluation, read off the records of the metrics. */
export class ListCounts {
  private steps = 0;
  private sum = 0;
  private most = 0;

  /** Takes the record of a step; begins anew with that of an evaluation. */
  observe(record: MetricsRecord): void {
    const { recomputed_lists: count } = record;
    if ('knn' in record) [this.steps, this.sum, this.most] = [0, 0, 0];
    else if (typeof count === 'number') {
      this.steps += 1;
      this.sum += count;
      this.most = Math.max(this.most, count);
    }
  }

  /** For the record of an evaluation; empty where no memory keeps lists. */
  summary(): { recomputed_lists_mean?: number; recomputed_lists_max?: number } {
    return this.steps === 0 ? {} : { recomputed_lists_mean: this.sum / this.steps, recomputed_lists_max: this.most };
  }
}
