import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { kernel, write } from '../shaders/lib/kernel.js';
import { decodeSafetensors, encodeSafetensors } from '../src/data/safetensors.js';
import { createPipelines } from '../src/gpu/pipelines.js';
import { input, output } from '../src/graph/op.js';
import {
  createEngine,
  decodePicture,
  defineOp,
  Engine,
  type EngineKernel,
  evaluateFeatures,
  gelu,
  loadWeights,
  matmul,
  pictureSet,
  residentSet,
  type Settings,
  SopError,
  softmax,
} from '../src/index.js';
import { openNodeGpu } from '../src/node.js';
import { gatherRows } from '../src/ops/gather_rows.js';
import { permutation } from '../src/rng.js';
import { initialWeights } from '../src/sop/initialize.js';

/** The engine as programs use it that know the reference alone: at once, too late, with what does not fit. */

const settings: Settings = {
  model: { arch: 'custom', width: 16, depth: 1, heads: 2, patch_size: 8, image_size: 16, local_size: 16 },
  head: { hidden: 16, layers: 2, out: 8 },
  views: { local_count: 1 },
  sop: { cls: { memory: 32, anchors: 8, neighbours: 2, tasks: 1 }, patch: { memory: 32, anchors: 8 } },
  train: { batch_size: 4, steps: 12 },
};

const count = 12;
const images = residentSet({
  name: 'noise',
  channels: 3,
  width: 16,
  height: 16,
  pixels: Uint8Array.from({ length: count * 16 * 16 * 3 }, (_, i) => Math.imul(i, 2654435761) >>> 24),
  labels: Int32Array.from({ length: count }, (_, i) => i % 2),
});

const engine = new Engine(await openNodeGpu({ quiet: true }));
const { device } = engine.gpu;
const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
const buffer = (size: number, usage = STORAGE | COPY_SRC | COPY_DST) => device.createBuffer({ size, usage });

/** Rejects with this exit code and one line like this. */
async function refuses(work: () => Promise<unknown>, exitCode: number, line: RegExp): Promise<void> {
  const error = await work().then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof SopError, `${error}`);
  assert.is(error.exitCode, exitCode, error.message);
  assert.match(error.message, line);
  assert.not.match(error.message, /\n/);
}

/** The device still computes: one mistake has not cost everything else that was made on it. */
async function stillWorks(): Promise<void> {
  const kernel = await engine.kernel(softmax, [{ shape: [1, 4], buffer: buffer(16) }], {});
  await kernel.run();
  assert.equal([...(await kernel.read())], [0.25, 0.25, 0.25, 0.25]);
  kernel.destroy();
}

/** Contents of a checkpoint but the seconds it took. */
function stateOf(bytes: Uint8Array): string {
  const { tensors } = decodeSafetensors(bytes);
  return JSON.stringify([...tensors].map(([name, { data }]) => [name, ...data]));
}

/** The state after so many steps without interruption. */
async function straight(steps: number): Promise<string> {
  const run = await engine.train({ data: images, settings });
  await run.run({ steps });
  const state = stateOf(await run.checkpoint());
  await run.destroy();
  return state;
}

test('a checkpoint that is asked for while steps run is that of one step', async () => {
  const run = await engine.train({ data: images, settings });
  let asked: Promise<Uint8Array> | null = null;
  await run.run({
    onStep: ({ step }) => {
      if (step === 3) asked = run.checkpoint();
    },
  });
  const bytes = await asked!;
  const step = Number(decodeSafetensors(bytes).metadata.get('step'));
  assert.ok(step >= 3 && step < 12, `step ${step}`);
  assert.ok(stateOf(bytes) === (await straight(step)), `not the state after step ${step}`);
  await run.destroy();
});

test('a run begins with the first weights of its seed in both networks, moments of 0 and memories of unit rows', async () => {
  const run = await engine.train({ data: images, settings });
  const { tensors } = decodeSafetensors(await run.checkpoint());
  const numbers = (name: string) => [...(tensors.get(name)!.data as Float32Array)];
  for (const [name, values] of initialWeights(run.training.shape.network, run.config.train.seed)) {
    assert.equal(numbers(`student.${name}`), [...values]);
    if (name !== 'masked_embed') assert.equal(numbers(`teacher.${name}`), [...values]);
    for (const moment of ['moment1', 'moment2']) assert.ok(numbers(`${moment}.${name}`).every((value) => value === 0));
  }
  const memories = ['cls', 'patch'].map((name) => numbers(`memory.${name}`));
  for (const rows of memories) {
    for (let row = 0; row < rows.length; row += 8)
      assert.ok(Math.abs(Math.hypot(...rows.slice(row, row + 8)) - 1) < 1e-6, `row ${row / 8}`);
  }
  assert.not.equal(memories[0], memories[1]);
  await run.destroy();
});

test('two calls of run train one after the other', async () => {
  const run = await engine.train({ data: images, settings });
  const seen: number[] = [];
  const onStep = ({ step }: { readonly step: number }) => seen.push(step);
  await Promise.all([run.run({ steps: 2, onStep }), run.run({ steps: 3, onStep }), run.embed()]);
  assert.equal(seen, [1, 2, 3, 4, 5]);
  await run.destroy();
});

test('what onStep throws ends a run whose step is that of its state', async () => {
  const run = await engine.train({ data: images, settings });
  const mine = new Error('mine');
  let calls = 0;
  const error = await run
    .run({
      onStep: () => {
        calls += 1;
        throw mine;
      },
    })
    .catch((thrown: unknown) => thrown);
  assert.is(error, mine);
  assert.is(calls, 1);
  assert.ok(stateOf(await run.checkpoint()) === (await straight(run.step)), `not the state after step ${run.step}`);
  await run.destroy();
});

test('destroy stops a run that goes on; later calls are refused', async () => {
  const run = await engine.train({ data: images, settings });
  let ended: Promise<void> | null = null;
  await run.run({
    onStep: () => {
      ended ??= run.destroy();
    },
  });
  await ended!;
  assert.ok(run.step < 12, `${run.step} steps`);
  await run.destroy();
  for (const call of [() => run.run(), () => run.checkpoint(), () => run.embed()])
    await refuses(call, 64, /training run is used after destroy/);
  await stillWorks();
});

test('views and prototypes of a run that is not watched are refused', async () => {
  const run = await engine.train({ data: images, settings });
  await run.run({ steps: 1 });
  const going = run.run({ steps: 2 });
  await refuses(() => run.views(1), 64, /watched: true/);
  await going;
  assert.is(run.step, 3);
  await refuses(() => run.prototypes(1), 64, /watched: true/);
  await run.destroy();
});

test('what a step saw is not known before the first step of a session', async () => {
  const begun = await engine.train({ data: images, settings, watched: true });
  await begun.run({ steps: 2 });
  assert.is((await begun.views(3)).images.length, 3);
  assert.is((await begun.prototypes(3)).length, 3);
  const resumed = await engine.train({ data: images, checkpoint: await begun.checkpoint(), watched: true });
  assert.equal((await resumed.views(3)).images, []);
  assert.equal(await resumed.prototypes(3), []);
  for (const run of [begun, resumed]) await run.run({ steps: 1 });
  assert.equal(await resumed.views(3), await begun.views(3));
  assert.equal(await resumed.prototypes(3), await begun.prototypes(3));
  for (const run of [begun, resumed]) await run.destroy();
});

test('views show the images of the last step, prototypes the images that rows of the memory came from', async () => {
  // Views of the whole image, unchanged but that the second one is solarized.
  const augment = { flip: 0, jitter: 0, grey: 0, blur: [0, 0, 0], solarize: [0, 1, 0] } as const;
  const views = { local_count: 1, global_scale: [1, 1], local_scale: [1, 1] } as const;
  const run = await engine.train({ data: images, settings: { ...settings, augment, views }, watched: true });
  assert.equal([run.step, run.elapsed, (await run.views(9)).images, await run.prototypes(9)], [0, 0, [], []]);
  /** Image number `n` that the run has seen: an epoch is three steps of four. */
  const seen = (n: number) => permutation(run.config.train.seed, Math.floor(n / count), count)[n % count];
  // The memory has 32 rows, so that the last of 12 steps wrote the first of them again.
  for (const steps of [5, 7]) {
    await run.run({ steps });
    const written = 4 * (run.step - 1);
    const shown = await run.views(3);
    assert.equal([shown.step, shown.grid, shown.images.length], [run.step, 2, 3]);
    shown.images.forEach(({ index, views: of }, i) => {
      assert.is(index, seen(written + i));
      assert.equal(
        of.map(({ kind, size, mask }) => [kind, size, mask?.length]),
        [
          ['global', 16, 4],
          ['global', 16, 4],
          ['local', 16, undefined],
        ],
      );
      const rgb = [...images.resident!.pixels.subarray(index * 768, (index + 1) * 768)];
      const solarized = rgb.map((value) => (value >= 128 ? 255 - value : value));
      of.forEach(({ pixels }, view) => {
        assert.equal([...pixels.filter((_, at) => at % 4 < 3)], view === 1 ? solarized : rgb);
      });
    });
    const prototypes = await run.prototypes(9);
    assert.is(prototypes.length, 8);
    for (const { anchor, support } of prototypes) {
      assert.is(support.length, 2);
      for (const { row, image } of [anchor, ...support]) {
        let newest = written - 1;
        while (newest >= 0 && newest % 32 !== row) newest -= 1;
        assert.is(image, newest < 0 ? null : seen(newest), `row ${row} after ${written} images`);
      }
    }
  }
  assert.ok(run.elapsed > 0);
  await run.destroy();
});

test('an encoder takes many calls at once, and none after destroy', async () => {
  const run = await engine.train({ data: images, settings });
  const encoder = await engine.encoder(await run.exportWeights());
  await run.destroy();
  const alone = await encoder.embed(images);
  for (const { values } of await Promise.all(Array.from({ length: 6 }, () => encoder.embed(images))))
    assert.equal(values, alone.values);
  const { pixels } = images.resident!;
  const rgba = (i: number) => (_: unknown, at: number) =>
    at % 4 === 3 ? 255 : pixels[i * 768 + 3 * (at >> 2) + (at % 4)]!;
  const sides = { width: 16, height: 16 };
  const pictures = Array.from({ length: count }, (_, i) => ({
    ...sides,
    data: Uint8Array.from({ length: 1024 }, rgba(i)),
  }));
  assert.equal((await encoder.embed(pictures)).values, alone.values);
  const first = await encoder.attentionOf(images, 0);
  for (const values of await Promise.all(Array.from({ length: 6 }, () => encoder.attentionOf(images, 0))))
    assert.equal(values, first);
  await refuses(() => evaluateFeatures(engine.gpu, alone, Int32Array.of(0, 1), [1]), 64, /2 labels, 12 features/);
  encoder.destroy();
  encoder.destroy();
  await refuses(() => encoder.embed(images), 64, /encoder, .* is used after destroy/);
  await refuses(() => encoder.attentionOf(images, 0), 64, /encoder is used after destroy/);
  await stillWorks();
});

test('a run or an encoder that cannot begin, or is destroyed while it does, leaves nothing on the device', async () => {
  const run = await engine.train({ data: images, settings });
  const weights = await run.exportWeights();
  const { tensors, metadata } = decodeSafetensors(await run.checkpoint());
  await run.destroy();
  const partial = [...tensors.values()].filter(({ name }) => name !== 'memory.cls');
  const checkpoint = encodeSafetensors(
    partial,
    [...metadata].filter(([key]) => !key.startsWith('crc32')),
  );
  const loaded = loadWeights(weights);
  const others: Settings = { ...settings, model: { ...(settings['model'] as Settings), width: 24 } };
  const cancel = (at: string) => (stage: string) => {
    if (stage === at) throw new SopError(64, { what: 'enough', where: at, why: 'so', fix: 'so' });
  };
  const alive = new Set<GPUBuffer>();
  const { createBuffer } = device;
  device.createBuffer = (descriptor) => {
    const made = createBuffer.call(device, descriptor);
    const { destroy } = made;
    alive.add(made);
    return Object.assign(made, {
      destroy() {
        alive.delete(made);
        return destroy.call(made);
      },
    });
  };
  try {
    await refuses(() => engine.train({ data: images, checkpoint }), 65, /memory\.cls/);
    await refuses(() => engine.train({ data: images, settings: others, init: weights }), 65, /do not fit the model/);
    for (const stage of ['compile', 'warm up'])
      await refuses(() => engine.train({ data: images, settings, onProgress: cancel(stage) }), 64, /enough/);
    const few = { ...loaded, weights: new Map([...loaded.weights].slice(1)) };
    await refuses(() => engine.encoder(few), 65, /do not fit the encoder/);
    const encoder = await engine.encoder(loaded);
    const attention = encoder.attentionOf(images, 0);
    await new Promise((wake) => setTimeout(wake)); // it has begun
    encoder.destroy();
    await refuses(() => attention, 64, /used after destroy/);
  } finally {
    Reflect.deleteProperty(device, 'createBuffer');
  }
  assert.equal(
    [...alive].map(({ label, size }) => `${label}: ${size}`),
    [],
  );
  await stillWorks();
});

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

test('steps that are no number of steps train nothing', async () => {
  const run = await engine.train({ data: images, settings });
  for (const steps of [Number.NaN, -1, 1.5])
    await refuses(() => run.run({ steps }), 64, /\(steps\): .* are no steps; give a whole number/);
  assert.is(run.step, 0);
  await run.run({ steps: 0 });
  assert.is(run.step, 0);
  await run.run({ steps: Number.POSITIVE_INFINITY });
  assert.ok(run.finished);
  await run.destroy();
});

test('what is no bytes is refused by name, and so is a vote of nobody', async () => {
  const run = await engine.train({ data: images, settings });
  const weights = (await run.exportWeights()) as Uint8Array<ArrayBuffer>;
  const state = (await run.checkpoint()) as Uint8Array<ArrayBuffer>;
  const raw = (bytes: Uint8Array<ArrayBuffer>) => bytes.buffer as unknown as Uint8Array;
  const line = /expected a Uint8Array, got \[object ArrayBuffer\]; wrap an ArrayBuffer: new Uint8Array\(buffer\)/;
  await refuses(() => engine.encoder(raw(weights)), 64, line);
  await refuses(() => engine.encoder('w.safetensors' as never), 64, /expected a Uint8Array, got \[object String\]/);
  await refuses(() => engine.train({ data: images, checkpoint: raw(state) }), 64, line);
  await refuses(() => engine.train({ data: images, settings, init: raw(weights) }), 64, line);
  await refuses(
    async () => residentSet({ name: 'raw', channels: 3, width: 16, height: 16, pixels: raw(weights) }),
    64,
    line,
  );
  const features = await run.embed();
  for (const k of [[], [0], [1.5], [3, Number.NaN]])
    await refuses(
      () => evaluateFeatures(engine.gpu, features, images.labels, k),
      64,
      /\(k\): it is \[.*\]; give one or/,
    );
  await run.destroy();
  await stillWorks();
});

test('a closed engine refuses, and a device of the caller is the caller’s again', async () => {
  const borrowing = await createEngine({ device });
  const run = await borrowing.train({ data: images, settings });
  const going = run.run();
  await borrowing.close();
  await refuses(() => going, 64, /engine is used after close/);
  await run.destroy();
  await refuses(() => borrowing.train({ data: images, settings }), 64, /engine is used after close/);
  await stillWorks();
  const stranger = await createEngine({ device });
  await stranger.close();
  const told = new Promise<null>((resolve) => {
    device.addEventListener('uncapturederror', () => resolve(null), { once: true });
  });
  buffer(16, 0x8000); // no such usage
  assert.is(await Promise.race([stranger.failed, told]), null, 'a closed engine still takes the errors of the device');
  await refuses(() => stranger.kernel(softmax, [{ shape: [1, 4], buffer: buffer(16) }], {}), 64, /used after close/);
});

test('pictures: transparency is white, labels are as many, blobs need a browser', async () => {
  const data = Uint8Array.of(0, 0, 0, 0, 10, 20, 30, 255, 0, 0, 0, 128);
  assert.equal(
    [...(await decodePicture({ width: 3, height: 1, data })).data],
    [255, 255, 255, 10, 20, 30, 127, 127, 127],
  );
  await refuses(() => pictureSet([{ width: 3, height: 1, data }], { labels: [0, 1] }), 64, /2 labels, 1 pictures/);
  await refuses(() => decodePicture('a.png' as never), 65, /picture\): it is a\.png; give files/);
  await refuses(() => decodePicture(new Blob(['x'])), 65, /createImageBitmap.*give its pixels/);
});

test.after(() => engine.close());

test.run();
