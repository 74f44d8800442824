import { test } from 'uvu';
import { openNodeGpu } from '../src/node.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import { showCase } from './traced.js';

/** Every op on the adapter, forward and backward, against float64; in f16: half-kernels.test.ts. */
const gpu = await openNodeGpu();

for (const op of opTests) {
  for (const testCase of op.cases) test(showCase(op, testCase), () => checkOnDevice(gpu, op, testCase, opTests));
}

test.run();
