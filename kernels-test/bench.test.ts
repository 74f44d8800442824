import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type BenchCase, type BenchedTest, caseOf, modelCases, opsNamed, showShape } from '../bench/cases.js';
import { checkNode, holds } from '../bench/check.js';
import { benchKernel } from '../bench/kernels.js';
import { speedTables, withTables } from '../bench/readme.js';
import { lanesNote } from '../src/cli/bench.js';
import { openNodeGpu } from '../src/node.js';
import { layernorm } from '../src/ops/layernorm.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { timeNodes, timeStep } from '../src/plan/timing.js';
import { failsWith, succeeds } from './cli-support.js';
import { temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { drawAll, prepare, trace } from './traced.js';

const gpu = await openNodeGpu({ quiet: true });
const folder = temporaryFolder();
const ceiling = { gflops: 100, gbps: 10, dispatch_us: 20, loop: '', copies: [{ bytes: 2 ** 20, gbps: 10 }] };

/** Odd shapes, small enough to be checked whole. `dims` may end in a question mark: those are given too. */
function oddCase(found: BenchedTest): BenchCase {
  const special: Readonly<Record<string, readonly number[]>> = {
    augment: [3, 13, 1],
    patchify: [3, 15, 5, 1],
    pos_resample: [5, 3, 7],
    neighbours: [5, 67, 9, 3],
    pack_norms: [64 * 77],
    update_adamw: [64 * 77],
    update_loss_scale_gradients: [4 * 77],
    sample_rows: [65, 197],
    select_rows: [67, 5, 31],
    gather_rows: [33, 7, 19],
    stale_neighbours: [3, 67, 5, 2, 41],
  };
  return { test: found, dims: special[found.op.name] ?? [7, 5, 3, 2].slice(0, found.bench.dims.length) };
}

test('a shape and the node that it becomes name each other', () => {
  for (const found of opsNamed([])) {
    const benchCase = oddCase(found);
    const [node] = trace(found, caseOf(benchCase)).graph.nodes;
    const shapes = found.bench.shapesOf({ inputs: node!.inputs, outputs: node!.outputs, attrs: node!.attrs });
    // A batch of one is no batch to a node of matmul, heads and channels are always said.
    assert.equal(shapes, [benchCase.dims], `${found.op.name} ${showShape(benchCase)}`);
  }
});

for (const found of opsNamed([])) {
  const benchCase = oddCase(found);
  test(`${found.op.name} is right and timed at ${showShape(benchCase)}`, async () => {
    const rows = await benchKernel(gpu, benchCase, ceiling, 15);
    assert.equal(
      rows.map(({ pass }) => pass),
      // The gradients of a sum and of a copy are theirs as they come: nothing to compute.
      found.gradient && !['add', 'cast'].includes(found.op.name) ? ['forward', 'backward'] : ['forward'],
    );
    for (const row of rows) {
      assert.ok(holds(row), `${row.pass}: error ${row.error} of ${row.tolerance}`);
      assert.ok(row.ms > 0 && row.ms_min <= row.ms && row.ms <= row.ms_max, JSON.stringify(row));
      assert.ok(row.percent > 0 && row.variant !== '', JSON.stringify(row));
    }
  });
}

for (const [name, dims] of [
  ['softmax', [1, 200_001]],
  ['l2_normalize', [1, 200_001]],
  ['layernorm', [1, 200_001]],
  ['cross_entropy', [100_003, 1]],
] as const) {
  test(`${name} is right at ${dims.join('x')}, which no model has`, async () => {
    const [found] = opsNamed([name]);
    const rows = await benchKernel(gpu, { test: found!, dims }, ceiling, 1);
    assert.ok(rows.length === 2 && rows.every(holds), JSON.stringify(rows));
  });
}

test('a gradient whose terms cancel is held against them, as the tests hold it', async () => {
  const [found] = opsNamed(['sop_probabilities']);
  const rows = await benchKernel(gpu, { test: found!, dims: [64, 16, 3, 1] }, ceiling, 15);
  assert.ok(rows.length === 2 && rows.every(holds), JSON.stringify(rows));
});

if (gpu.target.timestamps) {
  test("the device's times are not rounded to the 65.536 us that web pages get", async () => {
    const [found] = opsNamed(['layernorm']);
    const { graph, outputs } = trace(found!, caseOf(oddCase(found!)));
    const replay = new Replay(await compile(gpu, plan(graph, gpu.target, outputs)));
    try {
      const spans = [...(await timeStep(replay)), ...(await timeStep(replay))];
      const ticks = spans.map(({ begin, end }) => (1000 * (end - begin)) / 65.536);
      assert.ok(
        ticks.some((count) => Math.abs(count - Math.round(count)) > 0.01),
        `${ticks}`,
      );
    } finally {
      replay.destroy();
    }
  });
} else console.log(`NOT RUN: the device's times: ${gpu.target.name} has no timestamp-query`);

if (gpu.target.f16) {
  for (const [name, dims] of [
    ['matmul', [70, 50, 30]],
    ['layernorm', [70, 50]],
  ] as const) {
    test(`${name} is right and timed in f16`, async () => {
      const [found] = opsNamed([name]);
      const rows = await benchKernel(gpu, { test: found!, dims, half: true }, ceiling, 15);
      assert.ok(
        rows.every((row) => holds(row) && row.shape.endsWith(' f16')),
        JSON.stringify(rows),
      );
    });
  }
} else console.log(`NOT RUN: bench in f16: ${gpu.target.name} has no shader-f16`);

test('large results are sampled, and a wrong row or a kernel that did nothing is seen', async () => {
  const [found] = opsNamed(['matmul']);
  const benchCase = { test: found!, dims: [2100, 130, 300] };
  const declared = caseOf(benchCase);
  const traced = trace(found!, declared);
  const node = traced.graph.nodes[0]!;
  const [y] = node.outputs;
  const values = drawAll(traced, declared);
  const replay = new Replay(await compile(gpu, plan(traced.graph, gpu.target, [y!])));
  try {
    prepare(replay, traced, values);
    assert.not(holds(await checkNode(node, replay, traced, values)), 'poison passes for a result');
    await timeNodes(replay, ({ index }) => index === 0, 1);
    assert.ok(holds(await checkNode(node, replay, traced, values)));
    const right = (await replay.read(y!)) as Float32Array<ArrayBuffer>;
    replay.write(y!, right.map((value, i) => (i === right.length - 1 ? value + 0.01 : value)) as typeof right);
    assert.not(holds(await checkNode(node, replay, traced, values)), 'an error in the last element is overlooked');
  } finally {
    replay.destroy();
  }
});

test('every op has shapes, and of ViT-S at batch 16 every linear layer in all three forms', async () => {
  const cases = await modelCases(opsNamed([]), gpu.target);
  const shapes = cases.filter(({ test: { op } }) => /^(matmul|attention)$/.test(op.name)).map(showShape);
  const rows = 16 * (2 * 197 + 10 * 37);
  for (const columns of [384, 1152, 1536]) {
    for (const shape of [`${rows}x384x${columns}:NT`, `${rows}x${columns}x384:NN`, `${columns}x${rows}x384:TN`])
      assert.ok(shapes.includes(shape), `${shape} is not among ${shapes.join(' ')}`);
  }
  assert.ok(shapes.includes('32x197x64x6') && shapes.includes('160x37x64x6'), shapes.join(' '));
  assert.equal([...new Set(cases.map(({ test: { op } }) => op))], [...new Set(opsNamed([]).map(({ op }) => op))]);
});

test('an op that no model has and for which no shape is named is refused with what a shape of it is', async () => {
  const [found] = opsNamed(['column_sum']);
  const { also: _, ...bench } = found!.bench;
  const error = await modelCases([{ ...found!, bench }], gpu.target).catch((error: unknown) => error);
  assert.match(String(error), /column_sum needs a shape .*; add --shape with rows x columns/);
});

test('the command writes both files with the keys that others rely on', async () => {
  const [json, markdown] = [join(folder, 'bench.json'), join(folder, 'bench.md')];
  const asked = ['--shape', '65x33', '--shape', '7x197', '--json', json, '--markdown', markdown];
  const printed = await succeeds('bench', 'layernorm', ...asked);
  assert.match(printed, /GFLOP\/s of multiply-adds/);
  const report = JSON.parse(readFileSync(json, 'utf8')) as { ceiling: object; rows: Record<string, unknown>[] };
  for (const key of ['gflops', 'gbps', 'dispatch_us']) assert.ok(key in report.ceiling, key);
  for (const key of ['adapter', 'commit', 'date', 'cpu', 'cores']) assert.ok(key in report, key);
  assert.equal(
    report.rows.map(({ op, pass, shape }) => `${op} ${pass} ${shape}`),
    ['65x33', '7x197'].flatMap((shape) => ['forward', 'backward'].map((pass) => `layernorm ${pass} ${shape}`)),
  );
  const keys = 'op pass shape variant ms ms_min ms_max gflops gbps percent error'.split(' ');
  for (const row of report.rows) for (const key of keys) assert.ok(key in row, key);
  assert.is(readFileSync(markdown, 'utf8').match(/^\| layernorm \|/gm)?.length, 4);
});

test('that the quickstart trains on other lanes of lavapipe than it is benched on is said', () => {
  const onLavapipe = { ...gpu.target, kind: 'lavapipe' as const };
  assert.match(
    lanesNote({ ...onLavapipe, subgroupSize: 16 }) ?? '',
    /16, as vit-s .* trains on 8: LP_NATIVE_VECTOR_WIDTH=256/,
  );
  assert.is(lanesNote({ ...onLavapipe, subgroupSize: 8 }), undefined);
  assert.is(lanesNote({ ...onLavapipe, kind: 'gpu', subgroupSize: 32 }), undefined);
});

test('a misspelt op, a shape that is none, one of another op and one that cannot be are refused', async () => {
  await failsWith(64, ['bench', 'matmull'], /did you mean matmul\?/);
  await failsWith(64, ['bench', 'layernorm', '--shape', '12x0'], /whole numbers above 0/);
  await failsWith(64, ['bench', 'layernorm', '--shape', '12'], /rows x width/);
  await failsWith(64, ['bench', 'matmul', '--shape', '3x4x5:TT'], /no form TT/);
  await failsWith(64, ['bench', 'replay', '--shape', '65x33'], /replay has no shapes/);
  await failsWith(64, ['bench', 'patchify', '--shape', '3x15x4'], /--shape 3x15x4/);
  await failsWith(69, ['bench', 'softmax', '--shape', '1000000x1000000'], /in one binding/);
});

test('bench:peers refuses what it cannot do before anything is installed or measured', () => {
  const program = fileURLToPath(projectFile('bench/peers/main.js'));
  for (const [code, pattern, ...argv] of [
    [64, /did you mean softmax\?/, 'sofmax'],
    [64, /'--jsn'/, 'softmax', '--jsn', 'x.json'],
    [64, /--json has no value/, 'softmax', '--json', ''],
    [73, /cannot create/, 'softmax', '--json', join(folder, 'no-folder', 'peers.json')],
    [73, /cannot create/, 'softmax', '--markdown', folder],
    [69, /no such adapter/, 'softmax', '--adapter', 'a potato'],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...argv], { encoding: 'utf8' });
    assert.is(status, code, stderr);
    assert.match(stderr, /^sop-gpu: error: [^\n]+ \([^\n]+\): [^\n]+; [^\n]+\n$/);
    assert.match(stderr, pattern);
    assert.is(stdout, '');
  }
});

test('bench:step times steps, and refuses what it cannot do in one line', () => {
  const program = fileURLToPath(projectFile('bench/step.js'));
  const run = (...argv: string[]) => spawnSync(process.execPath, [program, ...argv], { encoding: 'utf8' });
  for (const [code, pattern, ...argv] of [
    [64, /'--jsn'/, '--jsn', 'x.json'],
    [64, /--steps\): expected a whole number, got abc/, '--steps', 'abc'],
    [64, /--channels/, '--channels', '2'],
    [64, /unknown preset/, '--preset', 'quick'],
    [73, /cannot create/, '--json', join(folder, 'no-folder', 'step.json')],
  ] as const) {
    const { status, stdout, stderr } = run(...argv);
    assert.is(status, code, stderr);
    assert.match(stderr, /^sop-gpu: error: [^\n]+\n$/);
    assert.match(stderr, pattern);
    assert.is(stdout, '');
  }
  const json = join(folder, 'step.json');
  const { status, stdout, stderr } = run('--set', 'model.depth=1', '--steps', '1', '--json', json);
  assert.is(status, 0, stderr);
  assert.match(stdout, /^images_per_s +[\d.]+$/m);
  assert.ok((JSON.parse(readFileSync(json, 'utf8')) as { ms: number }).ms > 0);
});

test('the tables of speed are what bench/results gives', () => {
  const text = (name: string): string => readFileSync(projectFile(name), 'utf8');
  const { peers, kernels } = speedTables(fileURLToPath(projectFile('bench/results')));
  assert.is(withTables(text('README.md'), peers), text('README.md'), 'run npm run bench:readme');
  assert.is(kernels, text('bench/results/README.md'), 'run npm run bench:readme');
});

test('of two runs on one adapter the newer one counts, and of a pass all shapes with a fifth of the most work, op by op', () => {
  const results = join(folder, 'results');
  mkdirSync(results);
  const row = (op: string, shape: string, ms: number) => ({
    ...{ op, pass: 'forward', shape, ms, gflops: 10, gbps: 1, percent: 50, bound: 'compute' },
  });
  const write = (file: string, date: string, rows: readonly object[]) => {
    const measured = {
      adapter: 'some adapter',
      commit: '0',
      date: `${date}T00:00:00.000Z`,
      cpu: 'some processor',
      cores: 2,
    };
    writeFileSync(join(results, file), JSON.stringify({ ...measured, ceiling, rows }));
  };
  write('a.json', '2026-11-30', [row('gelu', '7x9', 2), row('matmul', '9x9x9:NT', 50)]);
  write('b.json', '2026-11-29', [row('gelu', '7x9', 1), row('softmax', '5x1', 19), row('softmax', '5x5', 100)]);
  write('b-peers.json', '2026-11-29', [{ ...row('softmax', '5x5', 100), peer: 'ours', ratio: 1 }]);
  write('a-peers.json', '2026-11-30', [{ ...row('attention', '7x9', 3), peer: 'ours', ratio: 1 }]);
  const { peers, kernels } = speedTables(results);
  const tables = `${peers}\n\n${kernels}`;
  assert.equal(
    [...tables.matchAll(/^\| (\S+ \| forward|\S+, forward) \| (\S+) \| (\S+)/gm)].map(
      ([, , shape, ms]) => `${shape} ${ms}`,
    ),
    ['5x5 100', '7x9 3', '9x9x9:NT 50', '5x5 100', '7x9 2'],
  );
  assert.is(tables.match(/some adapter(?:\*\*)? \(some processor, 2 cores; 2026-11-30\)/g)?.length, 2);
});

test('an op that is part of another is found in it', () => {
  assert.equal(
    opsNamed(['layernorm_backward']).map(({ op }) => op),
    [layernorm],
  );
});

test.after(() => gpu.close());

test.run();
