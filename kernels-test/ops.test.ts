import { test } from 'uvu';
import { openNodeGpu } from '../src/node.js';
import { checkOnDevice } from './harness.js';
import { opTests } from './index.js';
import { halfCases, showCase } from './traced.js';

/** Every op on the adapter, forward and backward, against float64; where it has f16, with tensors stored so too. */
const gpu = await openNodeGpu();

if (!gpu.target.f16) console.log(`NOT RUN: cases in f16: ${gpu.target.name} has no shader-f16`);

for (const op of opTests) {
  for (const testCase of [...op.cases, ...(gpu.target.f16 ? halfCases(op) : [])])
    test(showCase(op, testCase), () => checkOnDevice(gpu, op, testCase, opTests));
}

test.run();
