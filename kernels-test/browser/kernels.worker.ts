import { openGpu } from '../../src/gpu/device.js';
import { checkOnDevice } from '../harness.js';
import { opTests } from '../index.js';
import { showCase } from '../traced.js';
import { trainingLosses } from './training-case.js';

/** In a dedicated worker of a real browser: every kernel case of the registry, then a training; one message a result. */
export type WorkerReport =
  | { readonly kind: 'adapter'; readonly name: string; readonly subgroupSize: number }
  | { readonly kind: 'case'; readonly name: string; readonly error: string | null }
  | { readonly kind: 'losses'; readonly losses: readonly (readonly number[])[] }
  | { readonly kind: 'end'; readonly error: string | null };

const report = (message: WorkerReport): void => globalThis.postMessage(message);

async function runAll(): Promise<void> {
  const gpu = await openGpu(navigator.gpu);
  report({ kind: 'adapter', name: gpu.target.name, subgroupSize: gpu.target.subgroupSize });
  for (const op of opTests) {
    for (const testCase of op.cases) {
      const error = await checkOnDevice(gpu, op, testCase, opTests).then(
        () => null,
        (problem: unknown) => String(problem),
      );
      report({ kind: 'case', name: showCase(op, testCase), error });
    }
  }
  await gpu.close();
  report({ kind: 'losses', losses: await trainingLosses({}) });
}

runAll().then(
  () => report({ kind: 'end', error: null }),
  (error: unknown) =>
    report({ kind: 'end', error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);
