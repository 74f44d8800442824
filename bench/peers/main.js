// npm run bench:peers -- [op...] [--adapter NAME] [--json FILE] [--markdown FILE]
//
// sop-gpu against TensorFlow.js and jax-js on one adapter, and against PyTorch on the CPU where python3 has it. All get the
// same numbers, in memory before the clock starts; each result is checked; in every round the peers follow each other in
// random order, N launches and then one small read-back each.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compiled, die, underVulkan } from '../../bin/launch.js';

const { values: flags, positionals: asked } = parseArgs({
  allowPositionals: true,
  options: { adapter: { type: 'string' }, json: { type: 'string' }, markdown: { type: 'string' } },
});

/** Rounds, and how long all launches of a peer take in one, ms. */
const ROUNDS = 5;
const ROUND_MS = 200;
/** Above this, ms, one launch after the first is all there is of a peer. */
const ONCE_MS = 5000;

/** The packages are apart from the project's own: 72 MB that only this program needs. */
function installPeers() {
  const folder = fileURLToPath(new URL('.', import.meta.url));
  if (existsSync(`${folder}node_modules/@jax-js/jax`) && existsSync(`${folder}node_modules/@tensorflow/tfjs-core`))
    return;
  console.error('bench:peers: installing tfjs and jax-js into bench/peers/node_modules ...');
  const { status } = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], {
    cwd: folder,
    stdio: 'inherit',
  });
  if (status !== 0) die(69, 'peers not installed (bench/peers): npm ci failed; see above, and try again');
}

async function main() {
  installPeers();
  const [{ chooseAdapter, openGpu }, { writeJson }, { table }] = await Promise.all(
    ['src/node.js', 'src/cli/output-file.js', 'src/cli/table.js'].map((file) => import(compiled(file))),
  );
  const { works, drawInputs } = await import('./works.js');
  const chosen = works.filter(({ op }) => asked.length === 0 || asked.includes(op));
  const unknown = asked.find((name) => !works.some(({ op }) => op === name));
  if (unknown !== undefined) {
    const names = [...new Set(works.map(({ op }) => op))].join(', ');
    die(64, `unknown work ${unknown} (bench:peers): there are: ${names}; name one of these, or none for all`);
  }
  const gpu = await openGpu((await chooseAdapter(flags.adapter)).adapter);
  console.log(`adapter  ${gpu.target.name}`);
  const peers = await makePeers(gpu, chooseAdapter);
  const rows = [];
  for (const work of chosen) {
    const of = await compareOn(work, drawInputs(work), peers);
    for (const line of table([], of.map(cells), 0)) console.log(line);
    rows.push(...of);
  }
  const { measureCeiling } = await import(compiled('bench/ceilings.js'));
  const ceiling = await measureCeiling(gpu, () => undefined);
  console.log('');
  for (const line of table(HEAD, rows.map(cells))) console.log(line);
  if (flags.json) await writeJson(flags.json, { adapter: gpu.target.name, ceiling, rows });
  if (flags.markdown) await writeMarkdown(flags.markdown, gpu.target.name, rows);
  await gpu.close();
  const wrong = rows.filter(({ error, tolerance }) => !(error <= tolerance));
  // Peers keep their devices for good, so the process would not end by itself.
  if (wrong.length > 0)
    die(
      70,
      `wrong results (${wrong.map(({ op, peer }) => `${op} by ${peer}`).join(', ')}): see above; do not trust the times`,
    );
  process.exit(0);
}

async function makePeers(gpu, chooseAdapter) {
  // What browsers have. A device takes its adapter with it, so everybody who asks gets an own one of the same kind.
  const webgpu = {
    requestAdapter: async () => (await chooseAdapter(flags.adapter)).adapter,
    getPreferredCanvasFormat: () => 'rgba8unorm',
    wgslLanguageFeatures: new Set(),
  };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: webgpu, userAgent: 'node' }, configurable: true });
  const { makeOurs, makeDense } = await import('./ours.js');
  const peers = [makeOurs(gpu), makeDense(gpu)];
  for (const [file, make] of [
    ['./tfjs.js', 'makeTfjs'],
    ['./jax.js', 'makeJax'],
  ])
    peers.push(await (await import(file))[make]());
  const { makeTorch, torchVersion } = await import('./torch.js');
  const version = torchVersion();
  if (version) {
    console.log(`torch    ${version}, CPU`);
    peers.push(makeTorch('dense'), makeTorch('structured'));
  } else console.log('torch    left out: python3 has none; to have it: pip install torch==2.13.0');
  return peers;
}

/** Milliseconds of `times` launches and the wait after them. */
async function timed(prepared, times) {
  if (prepared.timed) return prepared.timed(times);
  const start = performance.now();
  for (let i = 0; i < times; i++) prepared.launch();
  await prepared.wait();
  return performance.now() - start;
}

const shuffled = (list) =>
  list
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);

/** Rows of all peers that can do a work, ours first. */
async function compareOn(work, inputs, peers) {
  const entries = [];
  for (const peer of peers) {
    process.stderr.write(`${work.op} ${work.shape} ${work.pass}: ${peer.name} ...\n`);
    const prepared = await peer.prepare(work, inputs);
    if (!prepared) continue;
    // The first launch compiles; its result is the one that is checked.
    await timed(prepared, 1);
    const result = await prepared.result();
    entries.push({ peer, prepared, result, first: await timed(prepared, 1), times: [] });
  }
  const references = work.expected?.(inputs) ?? [...entries[0].result].map((value, at) => [at, value]);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { prepared, first, times } of shuffled(entries)) {
      // What takes many seconds was measured once already, after the launch that compiled it.
      if (first > ONCE_MS) {
        if (round === 0) times.push(first);
        continue;
      }
      const launches = Math.max(1, Math.min(100, Math.round(ROUND_MS / first)));
      times.push((await timed(prepared, launches)) / launches);
    }
  }
  for (const { prepared } of entries) prepared.dispose();
  const [ours] = entries.map(({ times }) => median(times));
  return entries.map(({ peer, result, times }) => {
    const ms = median(times);
    return {
      op: work.op,
      pass: work.pass,
      shape: work.shape,
      peer: peer.name,
      ms,
      ms_min: Math.min(...times),
      ms_max: Math.max(...times),
      gflops: work.flops / ms / 1e6,
      ratio: ms / ours,
      error: deviation(result, references),
      // Sums of up to some thousand terms in f32, in whatever order, unless the work says more.
      tolerance: work.tolerance ?? 1e-4,
    };
  });
}

const median = (times) => times.toSorted((a, b) => a - b)[times.length >> 1];

/** Worst of the places, in units of the RMS of what is expected; NaN where one is no number. */
function deviation(result, references) {
  const rms = Math.sqrt(references.reduce((sum, [, value]) => sum + value * value, 0) / references.length);
  return references.reduce((worst, [at, value]) => Math.max(worst, Math.abs(result[at] - value) / rms), 0);
}

const HEAD = ['op', 'pass', 'shape', 'peer', 'ms', 'min', 'max', 'GFLOP/s', 'times ours', 'error'];

function cells({ op, pass, shape, peer, ms, ms_min, ms_max, gflops, ratio, error, tolerance }) {
  const digits = (value) => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3))));
  const deviates = `${error <= tolerance ? '' : 'WRONG '}${error.toExponential(1)}`;
  return [op, pass, shape, peer, ...[ms, ms_min, ms_max, gflops, ratio].map(digits), deviates];
}

async function writeMarkdown(path, adapter, rows) {
  const { writeFileAtomic } = await import(compiled('src/data/node/files.js'));
  const line = (texts) => `| ${texts.join(' | ')} |`;
  const lines = [`${adapter}:`, '', line(HEAD), line(HEAD.map(() => '---')), ...rows.map((row) => line(cells(row)))];
  await writeFileAtomic(path, [new TextEncoder().encode(`${lines.join('\n')}\n`)]);
}

await underVulkan(main);
