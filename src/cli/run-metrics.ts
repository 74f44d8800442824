import { SopError } from '../errors.js';
import type { ListCounts } from './list-counts.js';
import { MetricsFile, type MetricsRecord } from './metrics-file.js';
import type { Printer } from './printer.js';

/** The metrics of a run in progress: a full disk costs lines of them, never the run. */
export class RunMetrics {
  /** Lists of neighbours that were searched anew since the last evaluation. */
  readonly lists: ListCounts;
  /** Step of the last evaluation that is in the file already; 0 where there is none. */
  readonly lastEvaluation: number;
  private failing = false;

  private constructor(
    private readonly file: MetricsFile,
    private readonly printer: Printer,
  ) {
    ({ lists: this.lists, lastEvaluation: this.lastEvaluation } = file.history);
  }

  /** @throws as `MetricsFile.open` */
  static open(path: string, lastStep: number, printer: Printer): RunMetrics {
    const file = MetricsFile.open(path, lastStep);
    const { missing } = file.history;
    if (missing > 0) printer.warn(`${path} lacks ${missing} of the ${lastStep} steps that were done; the run goes on`);
    return new RunMetrics(file, printer);
  }

  append(record: MetricsRecord): void {
    this.lists.observe(record);
    try {
      this.file.append(record);
      this.failing = false;
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
      if (!this.failing)
        this.printer.warn(`${error.message}; the run goes on, metrics are missing from step ${record.step}`);
      this.failing = true;
    }
  }

  /** As `MetricsFile.sync`. */
  sync(): void {
    this.file.sync();
  }

  /** As `MetricsFile.restore`. */
  restore(): boolean {
    return this.file.restore();
  }

  close(): void {
    this.file.close();
  }
}
