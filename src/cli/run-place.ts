import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { writeFileAtomic } from '../data/node/files.js';
import { makeFolder } from '../data/node/folders.js';
import { ExitCode, SopError } from '../errors.js';
import type { RunMetrics } from './run-metrics.js';
import type { TrainSetup } from './train-setup.js';

const contentOf = (path: string): Promise<Buffer | null> => readFile(path).catch(() => null);

/**
 * The folder of a run while it goes on. Weeks are long: people move and remove folders, and start other runs in their place.
 * Asked before every checkpoint, so that none is written where nobody could resume it, or into another run.
 */
export class RunPlace {
  private securing: Promise<void> | null = null;

  private constructor(
    private readonly setup: Pick<TrainSetup, 'run' | 'lock' | 'printer'>,
    private readonly metrics: RunMetrics,
    private readonly config: Buffer | null,
    /** Has the moment of the run's start in it: no other run has the same. Null where it cannot be read. */
    private readonly environment: Buffer | null,
  ) {}

  /** Of a folder that is prepared. */
  static async open(setup: TrainSetup, metrics: RunMetrics): Promise<RunPlace> {
    const { config, environment } = setup.run;
    return new RunPlace(setup, metrics, await contentOf(config), await contentOf(environment));
  }

  /**
   * Makes the folder again, with settings and metrics, where it is gone.
   *
   * @throws SopError 73 where another run has its place now; 73, 74 where it cannot be written
   */
  secure(): Promise<void> {
    this.securing ??= this.restore().finally(() => {
      this.securing = null;
    });
    return this.securing;
  }

  private async restore(): Promise<void> {
    const { run, lock, printer } = this.setup;
    const there = await contentOf(run.environment);
    if (there && this.environment && !there.equals(this.environment)) throw replaced(run.folder);
    await lock?.renew();
    const files = [
      [run.environment, this.environment],
      [run.config, this.config],
    ] as const;
    let gone = false;
    for (const [path, content] of files) {
      if (content === null || existsSync(path)) continue;
      gone = true;
      await makeFolder(run.folder);
      await writeFileAtomic(path, [content]);
    }
    if (this.metrics.restore() || gone)
      printer.warn(
        `${run.folder} or files in it were moved or removed; the run goes on there, with what it needs made again`,
      );
  }
}

function replaced(folder: string): SopError {
  return new SopError(ExitCode.cannotCreate, {
    what: 'cannot save the run',
    where: folder,
    why: 'another run is there now: the folder was moved or removed while this one went on',
    fix: 'move the other run away, and this one goes on there',
  });
}
