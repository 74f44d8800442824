import { readFileSync } from 'node:fs';
import { projectFile } from './project.js';

/** What `npm run test:long` runs: a test file, on one of the software adapters if it needs a device. */
export interface LongRun {
  readonly file: string;
  readonly adapter: 'swiftshader' | 'llvmpipe' | null;
}

/** How such a run ended: an entry of `long-results.json`. */
export interface LongResult extends LongRun {
  /** The commit that was tested, and whether the files were just those of it. */
  readonly commit: string;
  readonly clean: boolean;
  readonly date: string;
  readonly seed: number;
  readonly seconds: number;
  /** False where it was stopped: then only the counts say something. */
  readonly finished: boolean;
  /** Tests. */
  readonly passed: number;
  readonly failed: number;
  /** How often something was done without a failure. */
  readonly counts: Readonly<Record<string, number>>;
}

/** The long runs among these test files: those that count rounds (rounds-support.ts), on each adapter if they open a device. */
export function longRuns(files: readonly string[]): LongRun[] {
  return files.flatMap((file): LongRun[] => {
    const source = readFileSync(projectFile(`kernels-test/${file}.test.ts`), 'utf8');
    if (!/\brounds\(|from '\.\/fuzz-support\.js'/.test(source)) return [];
    if (!source.includes('openNodeGpu(')) return [{ file, adapter: null }];
    return [
      { file, adapter: 'swiftshader' },
      { file, adapter: 'llvmpipe' },
    ];
  });
}
