import { test } from 'uvu';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import type { Kernel } from '../src/graph/kernel.js';
import { openNodeGpu } from '../src/node.js';
import { checkOnDevice, kernelsOf, preferring, variantsOf } from './harness.js';
import { opTests } from './index.js';
import { showCase } from './traced.js';

/**
 * The kernels that the present adapter does not choose, on the present adapter: plans made for other adapters within its
 * limits, and those that tuning may choose. Of each op only the first cases that bring a new kernel run; `ops.test.ts` has checked the rest.
 */
const gpu = await openNodeGpu();
const { subgroupSize } = gpu.target;

/** A target for each variant that some op has for one of its cases there. */
function preferringEach(target: Target, what: string): Record<string, Target> {
  const names = opTests.flatMap((op) => op.cases.flatMap((testCase) => variantsOf(op, testCase, target)));
  const each = [...new Set(names)].map((name) => [`${what} and the variant '${name}'`, preferring(target, name)]);
  return Object.fromEntries(each);
}

const targets: Record<string, Target> = {
  'a GPU without subgroups': defaultTarget,
  [`a GPU with subgroups of ${subgroupSize}`]: { ...defaultTarget, subgroupSize },
  'this adapter without subgroups': { ...gpu.target, subgroupSize: 0 },
  ...preferringEach(gpu.target, 'this adapter'),
  ...preferringEach(defaultTarget, 'a GPU without subgroups'),
};

const own = opTests.flatMap((op) => op.cases.flatMap((testCase) => kernelsOf(op, testCase, gpu.target)));
const seen = new Set(own.map(({ source }) => source));

/** Places in a kernel's text that read or write workgroup memory. */
function sharedAccesses({ source }: Kernel): number {
  const names = [...source.matchAll(/var<workgroup> (\w+)/g)].map(([, name]) => `${name}[`);
  return names.reduce((sum, name) => sum + source.split(name).length - 1, 0);
}

/**
 * Lavapipe makes coroutines of kernels with barriers, in time that grows with the square of these accesses: 130 s for the three
 * kernels of a GPU's attention with heads of 64, half of this file's time. SwiftShader, which takes 5 s, is left to run them.
 */
const MOST_SHARED_ACCESSES = gpu.target.kind === 'lavapipe' ? 100 : Number.POSITIVE_INFINITY;

for (const op of opTests) {
  for (const [name, target] of Object.entries(targets)) {
    for (const testCase of op.cases) {
      const kernels = kernelsOf(op, testCase, target);
      const fresh = kernels.filter(({ source }) => !seen.has(source));
      if (fresh.length === 0) continue;
      for (const { source } of fresh) seen.add(source);
      const labels = [...new Set(fresh.map(({ label }) => label))].join(', ');
      if (Math.max(...kernels.map(sharedAccesses)) > MOST_SHARED_ACCESSES) {
        console.log(`left to SwiftShader: ${showCase(op, testCase)} for ${name}: ${labels}`);
        continue;
      }
      test(`${showCase(op, testCase)} for ${name}: ${labels}`, () => checkOnDevice(gpu, op, testCase, opTests, target));
    }
  }
}

test.run();
