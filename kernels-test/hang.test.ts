import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadNewestValid } from '../src/data/node/checkpoints.js';
import { Encoder } from '../src/eval/encoder.js';
import { nearest } from '../src/eval/similarity.js';
import type { Gpu } from '../src/gpu/device.js';
import type { TargetKind } from '../src/gpu/target.js';
import { patienceFor, Watchdog } from '../src/gpu/watchdog.js';
import { openNodeGpu } from '../src/node.js';
import { initialWeights } from '../src/sop/initialize.js';
import { fails, temporaryFolder } from './data-support.js';
import { atStep, greySet, metricsOf, trainTiny } from './tiny-run.js';

/** Devices that stop answering: in a step, an evaluation, a read-back, a search. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
/** On which the runs that hung go on. */
const sound = await openNodeGpu({ quiet: true });

/** A device of its own that answers nothing any more once it is told to, of buffers whose label begins like that. */
async function hanging(label: string): Promise<{ readonly gpu: Gpu; hang(): void }> {
  const gpu = await openNodeGpu({ quiet: true });
  let hung = false;
  const device = new Proxy(gpu.device, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (key !== 'createBuffer') return typeof value === 'function' ? value.bind(target) : value;
      return (description: GPUBufferDescriptor) => {
        const buffer = target.createBuffer(description);
        const map = buffer.mapAsync.bind(buffer);
        if (description.label?.startsWith(label))
          buffer.mapAsync = (...range) => (hung ? new Promise(() => undefined) : map(...range));
        return buffer;
      };
    },
  });
  // No waiting for what will not come; until then as long as ever.
  const patience = {
    get least() {
      return hung ? 0 : 60;
    },
    get first() {
      return hung ? 0 : 1200;
    },
    get factor() {
      return hung ? 0 : 20;
    },
  };
  return {
    gpu: { ...gpu, device, patience },
    hang: () => {
      hung = true;
    },
  };
}

for (const [what, label, step, options] of [
  ['a step', 'fetch.', 3, {}],
  ['the read-back of a checkpoint', 'read student', 4, { checkpointSeconds: 0 }],
  // An epoch has 12 steps, and after each the teacher is evaluated.
  ['an evaluation', 'fetch.', 12, {}],
] as const) {
  test(`a device that hangs in ${what} ends the run with 75, and it can go on`, async () => {
    const out = join(folder, what);
    const { gpu, hang } = await hanging(label);
    const run = { data: grey, length: { steps: '14' } };
    const onLine = atStep(step, hang);
    await fails(
      () => trainTiny(gpu, out, { ...run, ...options, onLine }),
      75,
      /the device hangs.*did not answer within/,
    );
    await gpu.close(); // at once, though work is in flight
    const last = (await loadNewestValid(out))?.checkpoint.step ?? -1;
    assert.ok(last >= 0 && last <= step, `a checkpoint of step ${last}`);
    assert.is((await trainTiny(sound, out, { ...run, resume: true })).steps, 14);
    const { stepLines, evaluations } = metricsOf(out);
    assert.equal(
      [stepLines, evaluations].map((lines) => lines.map((line) => line.step)),
      [Array.from({ length: 14 }, (_, i) => i + 1), [12, 14]],
    );
  });
}

test('a device that hangs while features are made or compared is met as well', async () => {
  const vit = {
    width: 8,
    depth: 1,
    heads: 1,
    mlpRatio: 1,
    patch: 2,
    channels: 1,
    imageSize: 4,
    initStd: 0.02,
  } as const;
  const shape = { vit, head: { hidden: 1, layers: 1, out: 1 }, globalFeature: 'cls' } as const;
  const image = () => new Float32Array(16);
  for (const work of ['features', 'search']) {
    const { gpu, hang } = await hanging('fetch.');
    const encoder = await Encoder.create(gpu, shape, 2);
    encoder.load(initialWeights(shape, 0));
    await encoder.features(2, image);
    hang();
    const rows = Float32Array.of(1, 0, 0, 1);
    await fails(
      () => (work === 'features' ? encoder.features(4, image) : nearest(gpu, rows, rows, 2, 1)),
      75,
      /the device hangs/,
    );
    await gpu.close();
  }
});

test('a device that hangs in a profile is met as well, after the run', async () => {
  const { gpu, hang } = await hanging('profile');
  const out = join(folder, 'profile');
  const onLine = (line: string): void => {
    if (line.startsWith('weights ')) hang();
  };
  await fails(
    () => trainTiny(gpu, out, { data: grey, length: { steps: '2' }, profile: true, onLine }),
    75,
    /the device hangs/,
  );
  await gpu.close();
  assert.is((await loadNewestValid(out))?.checkpoint.step, 2);
});

test('a process whose device hangs ends with 75, though its work never does', () => {
  const own = (path: string): string =>
    JSON.stringify(pathToFileURL(fileURLToPath(new URL(path, import.meta.url))).href);
  const script = join(folder, 'hangs.mjs');
  writeFileSync(
    script,
    `
import { Watchdog } from ${own('../src/gpu/watchdog.js')};
import { openNodeGpu } from ${own('../src/node.js')};
const gpu = await openNodeGpu({ quiet: true });
const { device } = gpu;
const code = '@group(0) @binding(0) var<storage, read_write> a: array<u32>; @compute @workgroup_size(1) fn main() { for (var i = 0u; i < 2000000000u; i++) { a[i & 1u] = a[(i * i) & 1u] + i; } }';
const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module: device.createShaderModule({ code }) } });
const buffer = device.createBuffer({ size: 8, usage: GPUBufferUsage.STORAGE });
const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer } }] });
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
pass.setPipeline(pipeline);
pass.setBindGroup(0, group);
pass.dispatchWorkgroups(4096);
pass.end();
device.queue.submit([encoder.finish()]);
try {
  await gpu.orFail(device.queue.onSubmittedWorkDone(), new Watchdog({ least: 0, factor: 0, first: 0.2 }));
} catch (error) {
  await gpu.close();
  process.exit(error.exitCode);
}
`,
  );
  const started = performance.now();
  const { status, signal } = spawnSync(process.execPath, [script], { stdio: 'inherit', timeout: 120_000 });
  assert.equal([status, signal], [75, null]);
  assert.ok(performance.now() - started < 60_000);
});

test('the first step of a large model may take hours on a CPU, and minutes on a GPU', () => {
  const first = (kind: TargetKind, flops: number): number => patienceFor(kind, flops).first;
  assert.equal([first('lavapipe', 1e9), first('lavapipe', 1e12), first('gpu', 1e12)], [1200, 10_000, 1200]);
});

test('a watchdog allows 20 medians, and never less than a minute', () => {
  const watchdog = new Watchdog();
  assert.is(watchdog.limit(), 1200);
  watchdog.took(0.1);
  assert.is(watchdog.limit(), 60);
  for (const seconds of [7, 5, 90, 5]) watchdog.took(seconds);
  assert.is(watchdog.limit(), 100);
});

test('time in which the process was stopped is not the time of the device', async () => {
  const work = (blocked: boolean): Promise<string> =>
    new Promise((resolve) => {
      const end = new Watchdog({ least: 0, factor: 0, first: 0.1 }).watch(({ exitCode }) =>
        resolve(`hung, ${exitCode}`),
      );
      if (!blocked) return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
      setTimeout(() => {
        end();
        resolve('answered');
      }, 10);
    });
  assert.is(await work(true), 'answered');
  assert.is(await work(false), 'hung, 75');
});

test.after(() => sound.close());

test.run();
