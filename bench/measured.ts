import { availableParallelism, cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { checkout } from '../src/node/checkout.js';
import { ownVersion } from '../src/node/version.js';

/** By which program, when and on what a result was measured. */
export interface Measured {
  /** With `-dirty` where files differ from it; the version of the package where there is no checkout. */
  readonly commit: string;
  /** ISO 8601. */
  readonly date: string;
  readonly cpu: string;
  /** That the process may use. */
  readonly cores: number;
}

export function measuredNow(): Measured {
  const found = checkout(fileURLToPath(new URL('../..', import.meta.url)), 'bench/results');
  return {
    commit: found ? `${found.commit}${found.clean ? '' : '-dirty'}` : `version ${ownVersion()}`,
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
  };
}
