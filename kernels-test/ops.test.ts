import { test } from 'uvu';
import type { Attributes } from '../src/graph/op.js';
import { openNodeGpu } from '../src/node.js';
import type { Case } from './declare.js';
import { checkOnDevice, kernelsOf } from './harness.js';
import { opTests } from './index.js';
import type { AnyOpTest } from './interpreter.js';
import { halfCases, showCase } from './traced.js';

/**
 * Every op on the adapter, forward and backward, against float64. Where it has f16, with tensors stored so too: of these cases
 * those that bring a kernel which none before had, since shapes do not care how numbers are stored.
 */
const gpu = await openNodeGpu();
if (!gpu.target.f16) console.log(`NOT RUN: cases in f16: ${gpu.target.name} has no shader-f16`);
const seen = new Set<string>();

function bringsKernel(op: AnyOpTest, testCase: Case<Attributes>): boolean {
  const before = seen.size;
  for (const { source } of kernelsOf(op, testCase, gpu.target)) seen.add(source);
  return seen.size > before;
}

for (const op of opTests) {
  const halves = gpu.target.f16 ? halfCases(op).filter((testCase) => bringsKernel(op, testCase)) : [];
  for (const testCase of [...op.cases, ...halves])
    test(showCase(op, testCase), () => checkOnDevice(gpu, op, testCase, opTests));
}

test.run();
