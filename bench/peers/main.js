// npm run bench:peers -- [op...] [--adapter NAME] [--json FILE] [--markdown FILE]
//
// sop-gpu against TensorFlow.js and jax-js on one adapter, and against PyTorch on the CPU where python3 has it. All get the
// same numbers, in memory before the clock starts; each result is checked; in every round the peers follow each other in
// random order, N launches and then one small read-back each, and of each at least three rounds count.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compiled, die } from '../../bin/launch.js';
import { program } from '../program.js';

const { median, digits } = await import(compiled('src/numbers.js'));

/** How long all launches of a peer take in one round, ms. */
const ROUND_MS = 200;
/** Rounds of a peer by how long one launch takes, ms: of minutes there is one, and the table says so. */
const roundsOf = (ms) => (ms > 90_000 ? 1 : ms > 3000 ? 3 : 5);

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

function commandLine() {
  const options = { adapter: { type: 'string' }, json: { type: 'string' }, markdown: { type: 'string' } };
  try {
    const parsed = parseArgs({ allowPositionals: true, options });
    const empty = Object.entries(parsed.values).find(([, value]) => value.trim() === '');
    if (empty) throw new Error(`--${empty[0]} has no value`);
    return parsed;
  } catch (error) {
    const [why] = error.message.split('. ');
    return die(64, `bad command line (bench:peers): ${why}; it takes names of works, --adapter, --json and --markdown`);
  }
}

/** The works of these names; all of them where none is named. */
async function worksNamed(names) {
  const [{ works }, { nearestName }] = await Promise.all([
    import('./works.js'),
    import(compiled('src/config/nearest.js')),
  ]);
  const all = [...new Set(works.map(({ op }) => op))];
  const unknown = names.find((name) => !all.includes(name));
  if (unknown === undefined) return works.filter(({ op }) => names.length === 0 || names.includes(op));
  const nearest = nearestName(unknown, all);
  const fix = nearest === undefined ? 'name one of these, or none for all' : `did you mean ${nearest}?`;
  return die(64, `unknown work ${unknown} (bench:peers): there are: ${all.join(', ')}; ${fix}`);
}

async function main() {
  const { values: flags, positionals } = commandLine();
  const [node, { checkCreatable, writeJson }, { table }, { spreadWorkers }, { silenceDrivers }] = await Promise.all(
    ['node', 'cli/output-file', 'cli/table', 'node/spread-workers', 'node/driver-chatter'].map(
      (name) => import(compiled(`src/${name}.js`)),
    ),
  );
  silenceDrivers();
  // All that can be refused is refused before anything is installed or measured.
  const chosen = await worksNamed(positionals);
  for (const path of [flags.json, flags.markdown]) if (path !== undefined) await checkCreatable(path);
  const gpu = await node.openNodeGpu({ adapter: flags.adapter, quiet: true });
  installPeers();
  console.log(`adapter  ${gpu.target.name}`);
  const requestAdapter = async () => (await node.chooseAdapter(flags.adapter)).adapter;
  // Our device has its workers spread over the cores; so have theirs, each when it has just been opened.
  const peers = await makePeers(gpu, requestAdapter, gpu.target.kind === 'lavapipe' ? spreadWorkers : () => {});
  const [{ measureCeiling }, { measuredNow }, { drawInputs }] = await Promise.all(
    [compiled('bench/ceilings.js'), compiled('bench/measured.js'), './works.js'].map((file) => import(file)),
  );
  const ceiling = await measureCeiling(gpu, () => undefined);
  const rows = [];
  for (const work of chosen) {
    const of = await compareOn(work, drawInputs(work), peers);
    for (const line of table([], of.map(cells), 0)) console.log(line);
    rows.push(...of);
    // After each work: of peers that take minutes a launch, what was measured outlives an interruption.
    if (flags.json) await writeJson(flags.json, { adapter: gpu.target.name, ...measuredNow(), ceiling, rows });
    if (flags.markdown) await writeMarkdown(flags.markdown, gpu.target.name, rows);
  }
  console.log('');
  for (const line of table(HEAD, rows.map(cells))) console.log(line);
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

async function makePeers(gpu, requestAdapter, opened) {
  // What browsers have. A device takes its adapter with it, so everybody who asks gets an own one of the same kind.
  const webgpu = {
    requestAdapter,
    getPreferredCanvasFormat: () => 'rgba8unorm',
    wgslLanguageFeatures: new Set(),
  };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu: webgpu, userAgent: 'node' }, configurable: true });
  const { makeOurs, makeDense, makePlain } = await import('./ours.js');
  const peers = [makeOurs(gpu), makePlain(gpu), makeDense(gpu)];
  for (const [file, make] of [
    ['./tfjs.js', 'makeTfjs'],
    ['./jax.js', 'makeJax'],
  ]) {
    peers.push(await (await import(file))[make]());
    opened();
  }
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

/** One sample of a peer. Of what is quick the first is none: it says how many launches a sample has. */
async function sample(entry) {
  const launches = entry.launches ?? 1;
  const ms = (await timed(entry.prepared, launches)) / launches;
  entry.launches ??= Math.max(1, Math.min(100, Math.round(ROUND_MS / ms)));
  if (launches === entry.launches) entry.times.push(ms);
}

/** Rows of all peers that can do a work, ours first. */
async function compareOn(work, inputs, peers) {
  const entries = [];
  for (const peer of peers) {
    process.stderr.write(`${work.op} ${work.shape} ${work.pass}: ${peer.name} ...\n`);
    const prepared = await peer.prepare(work, inputs);
    if (!prepared) continue;
    // The first launch compiles; its result is the one that is checked.
    await timed(prepared, 1);
    entries.push({ peer, prepared, result: await prepared.result(), times: [] });
  }
  const references = work.expected?.(inputs) ?? [...entries[0].result].map((value, at) => [at, value]);
  const lacking = ({ times }) => times.length < roundsOf(times[0] ?? 0);
  for (let left = entries; left.length > 0; left = left.filter(lacking)) {
    for (const entry of shuffled(left)) await sample(entry);
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
      samples: times.length,
      gflops: work.flops / ms / 1e6,
      ratio: ms / ours,
      error: deviation(result, references),
      // Sums of up to some thousand terms in f32, in whatever order, unless the work says more.
      tolerance: work.tolerance ?? 1e-4,
    };
  });
}

/** Worst of the places, in units of the RMS of what is expected; NaN where one is no number. */
function deviation(result, references) {
  const rms = Math.sqrt(references.reduce((sum, [, value]) => sum + value * value, 0) / references.length);
  return references.reduce((worst, [at, value]) => Math.max(worst, Math.abs(result[at] - value) / rms), 0);
}

const HEAD = ['op', 'pass', 'shape', 'peer', 'ms', 'min', 'max', 'samples', 'GFLOP/s', 'times ours', 'error'];

function cells({ op, pass, shape, peer, ms, ms_min, ms_max, samples, gflops, ratio, error, tolerance }) {
  const deviates = `${error <= tolerance ? '' : 'WRONG '}${error.toExponential(1)}`;
  return [
    op,
    pass,
    shape,
    peer,
    ...[ms, ms_min, ms_max, samples, gflops, ratio].map((value) => digits(value)),
    deviates,
  ];
}

async function writeMarkdown(path, adapter, rows) {
  const { writeFileAtomic } = await import(compiled('src/data/node/files.js'));
  const line = (texts) => `| ${texts.join(' | ')} |`;
  const lines = [`${adapter}:`, '', line(HEAD), line(HEAD.map(() => '---')), ...rows.map((row) => line(cells(row)))];
  await writeFileAtomic(path, [new TextEncoder().encode(`${lines.join('\n')}\n`)]);
}

await program('bench:peers', main);
