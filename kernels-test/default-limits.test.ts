import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget } from '../src/gpu/target.js';
import type { Kernel } from '../src/graph/kernel.js';
import type { Attributes } from '../src/graph/op.js';
import { openNodeGpu } from '../src/node.js';
import type { Case } from './declare.js';
import { kernelsOf, preferring, variantsOf } from './harness.js';
import { opTests } from './index.js';
import type { AnyOpTest } from './interpreter.js';

/**
 * Kernels of GPUs that are not here, with subgroups of any size, in each of their variants: within what every adapter has
 * (WebGPU's default limits), where the software adapters that run them in other tests have more. Nothing is compiled.
 */
const tests = opTests as readonly AnyOpTest[];

/** Cases at the ends of what a model may have, beside those of the ops' tests. */
const extremes: Readonly<Record<string, readonly (readonly number[])[]>> = {
  attention: [
    [2, 130, 4],
    [2, 40, 512],
    [2, 40, 1024],
  ],
  neighbours: [[100, 200, 64, 16]],
  sop_probabilities: [[100, 20, 17, 64]],
};

function kernelsFor(op: AnyOpTest, subgroupSize: number): readonly Kernel[] {
  const target = { ...defaultTarget, subgroupSize };
  const extreme = (extremes[op.op.name] ?? []).flatMap((dims): Case<Attributes>[] =>
    op.bench ? [op.bench.sized(...dims)] : [],
  );
  return [...op.cases, ...extreme].flatMap((testCase) =>
    ['its own', ...new Set(variantsOf(op, testCase, target))].flatMap((name) =>
      kernelsOf(op, testCase, preferring(target, name)),
    ),
  );
}

const product = (numbers: string): number => numbers.split(',').reduce((all, number) => all * Number(number), 1);

/** Bytes of workgroup memory, each variable in whole units of 16. */
function sharedBytes({ source }: Kernel): number {
  const sizes: Readonly<Record<string, number>> = { f32: 4, u32: 4, 'atomic<u32>': 4, 'vec4<f32>': 16 };
  const variables = [...source.matchAll(/var<workgroup> (\w+): (?:array<(.*), (\d+)>|(.*));/g)];
  assert.is(variables.length, source.split('var<workgroup>').length - 1, source);
  return variables.reduce((sum, [, name, element, count = '1', single]) => {
    const size = sizes[element ?? single ?? ''];
    if (!size) throw new Error(`${name} of an unknown type`);
    return sum + 16 * Math.ceil((size * Number(count)) / 16);
  }, 0);
}

for (const subgroupSize of [0, 16, 32, 64, 128]) {
  test(`a GPU ${subgroupSize ? `with subgroups of ${subgroupSize}` : 'without subgroups of one size'}`, () => {
    const kernels = new Map(
      tests.flatMap((op) => kernelsFor(op, subgroupSize)).map((kernel) => [kernel.source, kernel]),
    );
    assert.ok(kernels.size > 200, `${kernels.size}`);
    for (const kernel of kernels.values()) {
      const invocations = product(/@workgroup_size\((.*?)\)/.exec(kernel.source)?.[1] ?? '');
      assert.ok(invocations <= defaultTarget.maxInvocations, `${kernel.label}: ${invocations} invocations`);
      const shared = sharedBytes(kernel);
      assert.ok(shared <= defaultTarget.sharedBytes, `${kernel.label}: ${shared} bytes of workgroup memory`);
      assert.ok(kernel.bindings.length <= defaultTarget.maxStorageBuffers, kernel.label);
    }
  });
}

test('compilers can follow the sums over as many rows of narrow heads as the largest subgroup loads', async () => {
  const gpu = await openNodeGpu({ quiet: true });
  const attention = tests.find(({ op }) => op.name === 'attention')!;
  try {
    for (const { source, label } of new Map(
      kernelsFor(attention, 128).map((kernel) => [kernel.source, kernel]),
    ).values()) {
      if (gpu.target.subgroupSize === 0 && source.includes('enable subgroups;')) continue;
      const module = gpu.device.createShaderModule({ code: source });
      const [error] = (await module.getCompilationInfo()).messages;
      assert.is(error?.message, undefined, label);
    }
  } finally {
    await gpu.close();
  }
});

test.run();
