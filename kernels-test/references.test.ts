import { test } from 'uvu';
import { checkReferenceGradient } from './harness.js';
import { opTests } from './index.js';
import { showCase } from './traced.js';

/** Every derivative, interpreted in float64, against central differences of the float64 reference. No device. */
for (const op of opTests.filter(({ gradient }) => gradient)) {
  for (const testCase of op.cases) test(showCase(op, testCase), () => checkReferenceGradient(op, testCase, opTests));
}

test.run();
