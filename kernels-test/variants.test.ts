import { test } from 'uvu';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import { openNodeGpu } from '../src/node.js';
import { checkOnDevice, kernelsOf } from './harness.js';
import { opTests } from './index.js';
import { showCase } from './traced.js';

/**
 * The kernels that the present adapter does not choose, on the present adapter: plans made for other adapters within its
 * limits. Of each op only the first cases that bring a new kernel run; `ops.test.ts` has checked the rest.
 */
const gpu = await openNodeGpu();
const { subgroupSize } = gpu.target;

const targets: Record<string, Target> = {
  'a GPU without subgroups': defaultTarget,
  [`a GPU with subgroups of ${subgroupSize}`]: { ...defaultTarget, subgroupSize },
  'this adapter without subgroups': { ...gpu.target, subgroupSize: 0 },
};

const own = opTests.flatMap((op) => op.cases.flatMap((testCase) => kernelsOf(op, testCase, gpu.target)));
const seen = new Set(own.map(({ source }) => source));

for (const op of opTests) {
  for (const [name, target] of Object.entries(targets)) {
    for (const testCase of op.cases) {
      const fresh = kernelsOf(op, testCase, target).filter(({ source }) => !seen.has(source));
      if (fresh.length === 0) continue;
      for (const { source } of fresh) seen.add(source);
      const labels = [...new Set(fresh.map(({ label }) => label))].join(', ');
      test(`${showCase(op, testCase)} for ${name}: ${labels}`, () => checkOnDevice(gpu, op, testCase, opTests, target));
    }
  }
}

test.run();
