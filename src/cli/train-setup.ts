import type { Config } from '../config/schema.js';
import type { DataSplits } from '../data/dataset.js';
import type { RunLock } from '../data/node/run-lock.js';
import type { Evaluator } from '../eval/evaluator.js';
import type { Gpu } from '../gpu/device.js';
import type { Printer } from './printer.js';
import type { RunFolder } from './run-folder.js';
import type { StopRequest } from './signals.js';

/** Everything that a run needs, opened and checked. */
export interface TrainSetup {
  readonly config: Config;
  readonly splits: DataSplits;
  /** Of the training set's files as the run found them, where it has one. */
  readonly checksum?: string | undefined;
  readonly gpu: Gpu;
  readonly run: RunFolder;
  /** Of the run's folder, where it was taken. */
  readonly lock?: RunLock;
  readonly resume: boolean;
  readonly init: string | undefined;
  readonly printer: Printer;
  /** Measures the teacher; one on the quick protocol when left out. */
  readonly evaluator?: Evaluator;
  readonly stop: StopRequest;
  /** Opens another device after this one was lost; without it a loss ends the run. */
  readonly reopen?: () => Promise<Gpu>;
  /** Time every dispatch of some steps at the end. */
  readonly profile?: boolean;
  /** The settings go to the log alone. */
  readonly brief?: boolean;
}
