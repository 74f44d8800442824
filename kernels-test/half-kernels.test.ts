import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import type { Attributes } from '../src/graph/op.js';
import { openNodeGpu } from '../src/node.js';
import type { Case } from './declare.js';
import { checkOnDevice, kernelsOf } from './harness.js';
import { opTests } from './index.js';
import type { AnyOpTest } from './interpreter.js';
import { halfCases, showCase } from './traced.js';

/**
 * Ops with tensors in f16, forward and backward, against float64 on inputs rounded so: the kernels of this adapter, then some
 * of a GPU without subgroups, which software adapters take long to compile. Only cases that bring a kernel which none before
 * had: shapes do not care how numbers are stored.
 */
const gpu = await openNodeGpu();
const seen = new Set<string>();

function bringsKernel(op: AnyOpTest, testCase: Case<Attributes>, target: Target): boolean {
  const before = seen.size;
  for (const { source } of kernelsOf(op, testCase, target)) if (source.includes('enable f16;')) seen.add(source);
  return seen.size > before;
}

test('a kernel asks for f16 where a binding holds it, and only there', () => {
  for (const op of opTests) {
    for (const { source } of halfCases(op).flatMap((testCase) => kernelsOf(op, testCase, gpu.target))) {
      const asks = /^(enable subgroups;\n)?enable f16;\n/.test(source);
      assert.is(asks, /var<storage, read(_write)?> \w+: array<(f16|vec4<f16>)>/.test(source), source.slice(0, 500));
    }
  }
});

if (!gpu.target.f16) console.log(`NOT RUN: kernels in f16: ${gpu.target.name} has no shader-f16`);

for (const op of gpu.target.f16 ? opTests : []) {
  for (const [name, target, most] of [
    ['this adapter', gpu.target, Number.POSITIVE_INFINITY],
    ['a GPU without subgroups', defaultTarget, 2],
  ] as const) {
    const fresh = halfCases(op).filter((testCase) => bringsKernel(op, testCase, target));
    for (const testCase of fresh.slice(0, most))
      test(`${showCase(op, testCase)} for ${name}`, () => checkOnDevice(gpu, op, testCase, opTests, target));
  }
}

test.run();
