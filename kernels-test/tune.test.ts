import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { defaultTarget, type TargetKind } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import { readTuning, tunedVariants, tuningFile } from '../src/node/tuning.js';
import { openNodeGpu } from '../src/node.js';
import { attention } from '../src/ops/attention.js';
import { layernorm } from '../src/ops/layernorm.js';
import { matmul } from '../src/ops/matmul.js';
import { neighbours } from '../src/ops/neighbours.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { leastMs, type TunedCall, tunePlan } from '../src/plan/tune.js';
import { callKey, withVariant } from '../src/plan/variants.js';
import { traceSearch } from '../src/sop/search-choice.js';
import { failsWith } from './cli-support.js';
import { temporaryFolder } from './data-support.js';
import { runCommand } from './run-command.js';

// Tests run with tuning switched off; these are about it, and keep theirs in a folder of their own.
const folder = temporaryFolder();
process.env['XDG_CACHE_HOME'] = folder;
const gpu = await openNodeGpu({ quiet: true });
const { target } = gpu;

function normed(rows: number, width: number) {
  const graph = new Graph();
  const [x, gamma, beta] = [
    graph.input('x', [rows, width]),
    graph.input('gamma', [width]),
    graph.input('beta', [width]),
  ];
  const outputs = graph.add(layernorm, [x, gamma, beta], { eps: 1e-6 });
  return { graph, outputs, call: { inputs: [x, gamma, beta], outputs, attrs: { eps: 1e-6 }, target } };
}

test('a call is named by op, shapes and attributes, and scalars by their names', () => {
  assert.is(callKey(layernorm, normed(65, 33).call), 'layernorm 65x33 33 33 eps=0.000001');
  const graph = new Graph();
  graph.scalar('other');
  const attrs = { at: graph.scalar('lr'), list: [{ count: 2, length: 3 }], on: true };
  const call = { inputs: [], outputs: [], attrs, target };
  assert.is(callKey({ ...layernorm, name: 'x' } as never, call as never), 'x at=lr list=[{count:2,length:3}] on=true');
});

test('a tuned variant is taken, one that the op does not have is not', () => {
  const { call } = normed(65, 33);
  const [own, other] = layernorm.variants!(call);
  const taken = (variant: string): string | undefined => {
    const tuned = new Map([[callKey(layernorm, call), variant]]);
    return withVariant(layernorm, { ...call, target: { ...target, tuned } }).variant;
  };
  assert.is(withVariant(layernorm, call).variant, own);
  assert.is(taken(other!), other);
  assert.is(taken('of another version'), own);
});

test('kernels with barriers are for GPUs, and for adapters without subgroups', () => {
  const graph = new Graph();
  graph.add(attention, [graph.input('qkv', [197, 192])], { heads: 1, segments: [{ count: 1, length: 197 }] });
  const memory = [graph.input('memory', [512, 8]), graph.input('anchors', [64], 'u32')];
  graph.add(neighbours, memory, { k: 4, search: 'all' });
  for (const { op, ...call } of graph.nodes) {
    const offered = (kind: TargetKind, subgroupSize: number): boolean =>
      op.variants!({ ...call, target: { ...defaultTarget, kind, subgroupSize } }).includes('workgroup');
    assert.equal([offered('gpu', 32), offered('gpu', 0), offered('swiftshader', 0)], [true, true, true], op.name);
    assert.equal([offered('lavapipe', 8), offered('swiftshader', 4)], [false, false], op.name);
  }
});

test('tuning times every variant of every different call once, and the plan then takes the fastest', async () => {
  const graph = new Graph();
  const [x, gamma, beta] = [graph.input('x', [130, 96]), graph.input('gamma', [96]), graph.input('beta', [96])];
  const [y] = graph.add(layernorm, [x, gamma, beta], { eps: 1e-6 });
  graph.add(layernorm, [y!, gamma, beta], { eps: 1e-6 });
  graph.one(matmul, [y!, graph.input('b', [96, 64])], { transA: false, transB: false });
  const planned = plan(graph, target);
  const steps: string[] = [];
  const found = new Map<string, TunedCall>();
  await tunePlan(gpu, planned, found, (done, total) => steps.push(`${done}/${total}`));
  const key = 'layernorm 130x96 96 96 eps=0.000001';
  const entry = found.get(key);
  assert.ok(entry, [...found.keys()].join());
  assert.is(steps.at(-1), `${found.size}/${found.size}`);
  assert.ok(entry.ms > 0 && entry.built_in_ms > 0 && entry.ms <= entry.built_in_ms, JSON.stringify(entry));
  assert.is(entry.built_in, layernorm.variants!({ ...planned.graph.nodes[0]!, attrs: { eps: 1e-6 }, target })[0]);
  const known = [...found.values()];
  await tunePlan(gpu, planned, found, () => undefined);
  assert.ok(
    known.every((call, i) => call === [...found.values()][i]),
    'what is known is timed again',
  );
  const cut = new Map<string, TunedCall>();
  const stopAfterOne = (done: number): void => {
    if (done === 1) throw new Error('stopped');
  };
  await tunePlan(gpu, planned, cut, stopAfterOne).then(
    () => assert.unreachable(),
    () => undefined,
  );
  assert.equal([...cut.keys()], [key], 'what was timed before it was stopped');
});

test('what the wait for a device costs is not taken for the time of a short kernel, a hopeless one is not sampled often', async () => {
  const timed = async (wait: number, ms: number, best: number) => {
    const samples: number[] = [];
    const least = await leastMs(async (repeats) => {
      samples.push(repeats);
      return wait + repeats * ms;
    }, best);
    return { least, samples };
  };
  // A variant that takes half of what the best so far did, on a device that answers after a hundred times that.
  const short = await timed(1, 0.01, 0.02);
  assert.ok(short.least < 0.012, JSON.stringify(short));
  assert.equal((await timed(1, 100, Infinity)).samples, [1, 1, 1, 1]);
  assert.equal((await timed(1, 100, 20)).samples, [1]);
  // Times that the device rounds down to nothing.
  assert.equal(await timed(0, 0, 1), { least: 0, samples: [1, 1000, 1000, 1000, 1000] });
});

test('the tiles of searches are tuned, too, those of lists on as many short lists as are expected', async () => {
  const task = { memory: 64, anchors: 32, neighbours: 2, tasks: 1, listed: true };
  const { graph } = traceSearch(task, 8, [5]);
  const planned = plan(graph, target);
  const found = new Map<string, TunedCall>();
  await tunePlan(gpu, planned, found, () => undefined);
  const names = ['stale_neighbours', 'update_neighbours_insert'];
  assert.equal(
    [...found.keys()].map((key) => key.split(' ')[0]),
    target.subgroupSize > 0 ? names : [],
  );
  const node = graph.nodes.find(({ op }) => op.name === 'stale_neighbours')!;
  const lengths = node.op.typical!({ ...node, target }).get(1)!;
  assert.is(lengths.filter((length) => length < 2).length, 1);
});

test('every variant gives the same numbers within rounding', async () => {
  const { graph, outputs, call } = normed(37, 64);
  const results: Float32Array[] = [];
  for (const variant of layernorm.variants!(call)) {
    const tuned = new Map([[callKey(layernorm, call), variant]]);
    const replay = new Replay(await compile(gpu, plan(graph, { ...target, tuned }, outputs)));
    replay.write(
      graph.tensors[0]!,
      Float32Array.from({ length: 37 * 64 }, (_, i) => Math.sin(i)),
    );
    replay.write(graph.tensors[1]!, new Float32Array(64).fill(1));
    replay.write(graph.tensors[2]!, new Float32Array(64));
    await replay.run();
    results.push((await replay.read(outputs[0]!)) as Float32Array);
    replay.destroy();
  }
  assert.ok(results.length > 1);
  for (const other of results) assert.ok(other.every((value, i) => Math.abs(value - results[0]![i]!) < 1e-5));
});

test('the command keeps what it found, later runs use it, other versions and broken files do not count', async () => {
  const small = ['model.arch=custom', 'model.width=16', 'model.depth=1', 'model.heads=2', 'model.patch_size=8'];
  const settings = [...small, 'model.image_size=16', 'views.local_count=0', 'head.hidden=16', 'head.out=8'];
  const memories = ['sop.cls.memory=16', 'sop.cls.anchors=4', 'sop.cls.neighbours=2', 'sop.patch.memory=16'];
  const all = [...settings, ...memories, 'sop.patch.anchors=4'].flatMap((setting) => ['--set', setting]);
  const json = join(folder, 'tune.json');
  const { code, out, err } = await runCommand(
    'tune',
    '--batch-size',
    '2',
    '--precision',
    'f16',
    ...all,
    '--json',
    json,
  );
  assert.is(code, 0, err);
  assert.match(out, /timed, \d+ faster/);
  assert.is(
    err.match(/warning: computed in f32, not in f16: .* has no shader-f16/g)?.length,
    target.f16 ? undefined : 1,
  );
  const report = JSON.parse(readFileSync(json, 'utf8')) as { file: string; calls: Record<string, { variant: string }> };
  assert.is(report.file, tuningFile(gpu.description));
  assert.ok(existsSync(report.file));
  const kept = readTuning(gpu.description);
  assert.equal(Object.keys(kept.calls).sort(), Object.keys(report.calls).sort());
  assert.ok(Object.keys(report.calls).some((key) => key.startsWith('layernorm_backward ')));

  const before = process.env['SOP_GPU_TUNING'];
  try {
    delete process.env['SOP_GPU_TUNING'];
    assert.is(tunedVariants(gpu.description).size, Object.keys(report.calls).length);
    const again = await openNodeGpu({ quiet: true });
    assert.is(again.target.tuned?.size, tunedVariants(gpu.description).size);
    await again.close();
    writeFileSync(report.file, JSON.stringify({ ...kept, engine: '0.0.0' }));
    assert.is(tunedVariants(gpu.description).size, 0, 'of another version');
    writeFileSync(report.file, '{ "calls": ');
    assert.is(tunedVariants(gpu.description).size, 0, 'broken');
    process.env['SOP_GPU_TUNING'] = 'off';
    writeFileSync(report.file, JSON.stringify(kept));
    assert.is(tunedVariants(gpu.description).size, 0, 'switched off');
  } finally {
    if (before === undefined) delete process.env['SOP_GPU_TUNING'];
    else process.env['SOP_GPU_TUNING'] = before;
  }
  await failsWith(64, ['tune', '--preset', 'vit-x'], /did you mean vit-/);
  // Before anything is timed.
  writeFileSync(join(folder, 'file'), '');
  process.env['XDG_CACHE_HOME'] = join(folder, 'file');
  try {
    await failsWith(73, ['tune', ...all], /file\/sop-gpu\/tuning\): .*not a folder/);
  } finally {
    process.env['XDG_CACHE_HOME'] = folder;
  }
});

test.after(() => gpu.close());

test.run();
