import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeSafetensors, encodeSafetensors } from '../src/data/safetensors.js';
import {
  createEngine,
  decodePicture,
  evaluateFeatures,
  loadWeights,
  pictureSet,
  residentSet,
  type Settings,
  SopError,
  softmax,
} from '../src/index.js';
import { permutation } from '../src/rng.js';
import { initialWeights } from '../src/sop/initialize.js';
import { buffer, device, engine, refuses, stillWorks } from './engine-support.js';

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
