import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { kernel, write } from '../shaders/lib/kernel.js';
import { createPipelines } from '../src/gpu/pipelines.js';
import { input, output } from '../src/graph/op.js';
import { defineOp, type EngineKernel, gelu, matmul, softmax } from '../src/index.js';
import { openNodeGpu } from '../src/node.js';
import { gatherRows } from '../src/ops/gather_rows.js';
import { buffer, COPY_DST, COPY_SRC, device, engine, refuses, STORAGE, stillWorks } from './engine-support.js';

/** Kernels of programs that know the reference alone: ops of their own, and buffers that do not fit. */

test('buffers that do not fit a kernel are refused before the device sees them', async () => {
  const kernel = (given: GPUBuffer, output: GPUBuffer | null = null): Promise<EngineKernel> =>
    engine.kernel(softmax, [{ shape: [2, 3], buffer: given }], {}, [output]);
  const whole = buffer(24);
  await refuses(() => kernel(buffer(12)), 64, /it has 12 bytes, expected 24/);
  await refuses(() => kernel(buffer(24, COPY_DST)), 64, /its usage is 8; give STORAGE/);
  await refuses(() => kernel(whole, buffer(24, STORAGE)), 64, /its usage is 128; give STORAGE/);
  await refuses(() => kernel(whole, whole), 64, /softmax\[0\].*input\.0 lies in it too/);
  const square = { shape: [2, 2], buffer: whole };
  const squared = await engine.kernel(matmul, [square, square], { transA: false, transB: false }); // reading twice is fine
  await squared.run();
  squared.destroy();
  await refuses(() => squared.run(), 64, /used after destroy/);
  await refuses(() => squared.read(), 64, /used after destroy/);
  await stillWorks();
});

test('types and numbers of inputs and outputs that an op does not have are refused', async () => {
  const tensor = (dtype: 'f32' | 'u32', ...shape: number[]) => ({ shape, dtype, buffer: buffer(64) });
  const [x, index] = [tensor('f32', 2, 2), tensor('u32', 2)];
  await refuses(() => engine.kernel(softmax, [tensor('u32', 2, 2)], {}), 70, /softmax.*input\.0 is u32, expected f32/);
  await refuses(() => engine.kernel(gelu, [tensor('u32', 2, 2)], {}), 70, /input\.0 is u32, expected f32 or f16/);
  await refuses(() => engine.kernel(gatherRows, [x, tensor('f32', 2)], {}), 70, /input\.1 is f32, expected u32/);
  const gathered = await engine.kernel(gatherRows, [x, index], {});
  gathered.destroy();
  await refuses(() => engine.kernel(softmax, [x, x], {}), 64, /softmax, input\.1 .*it is not read; leave it out/);
  await refuses(() => engine.kernel(softmax, [x], {}, [null, buffer(64)]), 64, /it has 1 outputs, given 2/);
  await stillWorks();
});

test('a custom op is held to what it declares', async () => {
  const scale = defineOp<{ readonly by: number }>({
    name: 'scale',
    words: (index) => index === 1,
    infer: ([x]) => [x!],
    launches: ({ inputs: [x], attrs: { by } }) => [
      {
        kernel: {
          label: 'scale.forward',
          entry: 'forward',
          bindings: [
            { name: 'x', access: 'read' },
            { name: 'shift', access: 'read' },
            { name: 'y', access: 'read_write' },
          ],
          params: [{ name: 'by', type: 'f32' }],
          scalars: false,
          source: `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> shift: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
struct Params { by: f32 }
@group(0) @binding(3) var<uniform> params: Params;
@compute @workgroup_size(1) fn forward(@builtin(workgroup_id) id: vec3<u32>) {
  y[id.x] = params.by * x[id.x] + f32(shift[0]);
}`,
          headerLines: 0,
        },
        bindings: { x: input(0), shift: input(1), y: output(0) },
        params: { by },
        workgroups: [x!.shape[0]!, 1, 1],
      },
    ],
    cost: () => ({ flops: 0, bytes: 0 }),
  });
  const [x, shift] = [
    { shape: [2], buffer: buffer(8) },
    { shape: [1], dtype: 'u32' as const, buffer: buffer(4) },
  ];
  device.queue.writeBuffer(x.buffer, 0, Float32Array.of(1, 2));
  device.queue.writeBuffer(shift.buffer, 0, Uint32Array.of(7));
  const kernel = await engine.kernel(scale, [x, shift], { by: 3 });
  await kernel.run();
  assert.equal([...(await kernel.read())], [10, 13]);
  kernel.destroy();
  await refuses(() => engine.kernel(scale, [{ ...x, dtype: 'u32' }, shift], { by: 3 }), 70, /is u32, expected f32/);
  await refuses(() => engine.kernel(scale, [x, { ...shift, dtype: 'f32' }], { by: 3 }), 70, /is f32, expected u32/);
  await stillWorks();
});

test('a shader that does not compile is shown where a person can mend it', async () => {
  const broken = (element: string, code: string) =>
    createPipelines(engine.gpu, [kernel({ label: 'times.forward', bindings: { x: write(element) }, code })]);
  const code = '@compute @workgroup_size(1) fn forward() {\n  x[0] = nothing;\n}';
  await refuses(
    () => broken('f32', code),
    70,
    /shaders\/times\.wgsl\.ts, forward, line 2 of its WGSL, column 10: x\[0\]/,
  );
  await refuses(() => broken('f31', code), 70, /forward, what its bindings and params declare: .*array<f31>/);
});

test('entry points of one source are kernels of their own', async () => {
  const times = (entry: 'twice' | 'thrice') =>
    defineOp({
      name: entry,
      infer: ([x]) => [x!],
      launches: ({ inputs: [x] }) => [
        {
          kernel: {
            label: `times.${entry}`,
            entry,
            bindings: [
              { name: 'x', access: 'read' },
              { name: 'y', access: 'read_write' },
            ],
            params: [],
            scalars: false,
            source: `@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn twice(@builtin(workgroup_id) id: vec3<u32>) { y[id.x] = 2 * x[id.x]; }
@compute @workgroup_size(1) fn thrice(@builtin(workgroup_id) id: vec3<u32>) { y[id.x] = 3 * x[id.x]; }`,
            headerLines: 0,
          },
          bindings: { x: input(0), y: output(0) },
          params: {},
          workgroups: [x!.shape[0]!, 1, 1],
        },
      ],
    });
  const x = { shape: [2], buffer: buffer(8) };
  device.queue.writeBuffer(x.buffer, 0, Float32Array.of(1, 2));
  for (const [entry, expected] of [
    ['twice', [2, 4]],
    ['thrice', [3, 6]],
  ] as const) {
    const kernel = await engine.kernel(times(entry), [x], {});
    await kernel.run();
    assert.equal([...(await kernel.read())], expected, entry);
    kernel.destroy();
  }
});

test('buffers that the device would not take cost nothing but a sentence', async () => {
  const softmaxOf = (given: GPUBuffer, output: GPUBuffer | null = null): Promise<EngineKernel> =>
    engine.kernel(softmax, [{ shape: [1, 4], buffer: given }], {}, [output]);
  const gone = buffer(16);
  gone.destroy();
  const mapped = device.createBuffer({ size: 16, usage: STORAGE | COPY_SRC | COPY_DST, mappedAtCreation: true });
  const other = await openNodeGpu({ quiet: true });
  const foreign = other.device.createBuffer({ size: 16, usage: STORAGE | COPY_SRC | COPY_DST });
  for (const bad of [gone, mapped, foreign]) {
    await refuses(() => softmaxOf(bad), 64, /softmax, input\.0 \[1,4\].*give buffers of this device, unmapped/);
    await refuses(() => softmaxOf(buffer(16), bad), 64, /softmax, softmax\[0\] \[1,4\].*give buffers of this device/);
  }
  await other.close();
  const [given, result] = [buffer(16), buffer(16)];
  const kernel = await softmaxOf(given, result);
  await kernel.run();
  given.destroy();
  await refuses(() => kernel.run(), 64, /softmax\).*destroyed.*give buffers/);
  assert.equal([...(await kernel.read())], [0.25, 0.25, 0.25, 0.25], 'the result is that of the run before');
  result.destroy();
  await refuses(() => kernel.read(), 64, /softmax\[0\]\).*destroyed.*give buffers/);
  kernel.destroy();
  await stillWorks();
});

test.run();
