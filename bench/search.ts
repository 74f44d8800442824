import { parseArgs } from 'node:util';
import { configFrom } from '../src/cli/options.js';
import { writeJson } from '../src/cli/output-file.js';
import { openNodeGpu } from '../src/node.js';
import { median } from '../src/numbers.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { Draws, permuted, stream } from '../src/rng.js';
import { type SearchPart, traceSearch } from '../src/sop/search-choice.js';
import { measuredNow } from './measured.js';

/**
 * Times the search for neighbours alone, in full and by lists, at the settings of a preset, on clustered embeddings. Both run
 * the same steps in turn; the lists' times and counts are told apart by whether lists were still being filled.
 *
 *   npm run bench:search -- --preset vit-s --batch-size 64 --steps 40
 */
const { values } = parseArgs({
  options: {
    preset: { type: 'string', default: 'vit-s' },
    'batch-size': { type: 'string', default: '64' },
    set: { type: 'string', multiple: true, default: [] },
    steps: { type: 'string', default: '40' },
    /** Every how many steps the full search runs as well. */
    full: { type: 'string', default: '10' },
    /** What the memory holds at the start: what comes later, too, or rows that lie anywhere, as in training. */
    start: { type: 'string', default: 'clustered' },
    json: { type: 'string' },
  },
});

const config = await configFrom({ preset: values.preset, batchSize: values['batch-size'], set: values.set });
const { memory, anchors, neighbours, tasks } = config.sop.cls;
const batch = config.train.batch_size;
const width = config.head.out;
const gpu = await openNodeGpu({});
const draws = new Draws({ seed: 0, purpose: 'synthetic' });
const centres = Array.from({ length: 100 }, () => Array.from({ length: width }, () => draws.normal()));

const parts = [false, true].map((listed) =>
  traceSearch({ memory, anchors, neighbours, tasks, listed }, width, [batch]),
);
const [full, lists] = (await Promise.all(parts.map(prepare))) as [Prepared, Prepared];
const first = rows(memory, values.start === 'clustered');
for (const { part, replay } of [full, lists]) replay.write(part.memory.rows, first);

const times = { full: [] as number[], filling: [] as number[], lists: [] as number[] };
const counts: number[] = [];
/** Fewer than this share of the drawn lists are searched anew once all are known. */
const FILLED = 0.1;
for (let step = 0; step < Number(values.steps); step++) {
  const fresh = rows(batch, true);
  const every = step % Number(values.full) === 0;
  for (const which of every ? [full, lists] : [lists]) {
    const { part, replay } = which;
    replay.write(part.inserted[0]!, fresh);
    part.drawn.forEach((tensor, task) => {
      const key = stream(0, step, task);
      replay.write(
        tensor,
        Uint32Array.from({ length: anchors }, (_, i) => permuted(key, i, memory)),
      );
    });
    await replay.settled();
    const started = performance.now();
    const [recomputed] = await replay.run();
    await replay.settled();
    const ms = performance.now() - started;
    if (which === full) times.full.push(ms);
    else {
      const count = recomputed?.[0] ?? Number.NaN;
      const filling = count > FILLED * Math.min(memory, tasks * anchors);
      (filling ? times.filling : times.lists).push(ms);
      if (!filling) counts.push(count);
      console.log(`step ${step}  ${ms.toFixed(1)} ms, ${count} lists searched anew${filling ? ', filling' : ''}`);
    }
  }
}
const report = {
  adapter: gpu.target.name,
  ...measuredNow(),
  memory,
  anchors: tasks * anchors,
  neighbours,
  batch,
  full_ms: median(times.full),
  full_gflop: full.gflop,
  lists_ms: median(times.lists),
  lists_gflop: lists.gflop,
  filling_steps: times.filling.length,
  recomputed_mean: counts.reduce((sum, count) => sum + count, 0) / counts.length,
  recomputed_max: Math.max(...counts),
};
for (const [name, value] of Object.entries(report)) {
  console.log(name.padEnd(16), typeof value === 'number' ? Number(value.toPrecision(4)) : value);
}
if (values.json !== undefined) await writeJson(values.json, report);

interface Prepared {
  readonly part: SearchPart;
  readonly replay: Replay;
  readonly gflop: number;
}

async function prepare(part: SearchPart): Promise<Prepared> {
  const found = part.found.flatMap(({ index, score }) => [index, score]);
  const watched = part.recomputed ? [part.recomputed] : [];
  const planned = plan(part.graph, gpu.target, [...found, ...watched]);
  const replay = new Replay(await compile(gpu, planned), watched);
  await replay.warmUp();
  for (const tensor of [part.memory.pointer, part.flag]) replay.write(tensor, new Uint32Array(1));
  const { lists: kept } = part.memory;
  if (kept) replay.write(kept.length, new Uint32Array(memory));
  return { part, replay, gflop: planned.costs.reduce((sum, { flops }) => sum + flops, 0) / 1e9 };
}

/** Rows of unit norm, about the centres or anywhere. */
function rows(count: number, clustered: boolean): Float32Array<ArrayBuffer> {
  const all = new Float32Array(count * width);
  for (let row = 0; row < count; row++) {
    const centre = centres[draws.below(centres.length)]!;
    const values = centre.map((value) => (clustered ? value : 0) + draws.normal());
    const norm = Math.hypot(...values);
    all.set(
      values.map((value) => value / norm),
      row * width,
    );
  }
  return all;
}
