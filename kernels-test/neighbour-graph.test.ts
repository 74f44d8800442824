import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { defaultTarget, type Target } from '../src/gpu/target.js';
import { openNodeGpu } from '../src/node.js';
import { neighbours } from '../src/ops/neighbours.js';
import { rowTileVariants } from '../src/ops/row-tiles.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { type Elements, Replay } from '../src/plan/replay.js';
import { planCheck, sameLists, similaritiesAgree } from '../src/sop/search-check.js';
import { traceSearch } from '../src/sop/search-choice.js';
import { traceTraining } from '../src/sop/training.js';
import { creations } from './creations-support.js';
import { Random } from './declare.js';
import { preferring } from './harness.js';
import { drawRows, ranking, wholeRows } from './lists.js';
import { rounds } from './rounds-support.js';

/**
 * Neighbours looked up in lists that are kept from step to step are those of the full search: the device's, bit by bit, and an
 * independent one on the CPU, over many steps of a FIFO memory.
 */
const gpu = await openNodeGpu({ quiet: true });

interface Setting {
  readonly rows: number;
  readonly width: number;
  readonly k: number;
  readonly tasks: number;
  readonly anchors: number;
  /** Rows of each batch that a step inserts. */
  readonly batches: readonly number[];
  /**
   * `whole`: small whole numbers, so that scores are exact and ties common. `unit`: unit norm, anywhere at the start and later
   * about three centres that move; the CPU then tells scores apart that differ by more than rounding. Of both some repeat.
   */
  readonly kind: 'whole' | 'unit';
}

const settings: Readonly<Record<string, Setting>> = {
  'a batch that divides the memory': setting(96, [16]),
  'a batch that does not': setting(101, [17]),
  'a batch of more than half of it': setting(37, [23]),
  'a batch of all of it': setting(24, [24]),
  'a batch of more than all of it': setting(37, [50]),
  'two batches a step, wrapping round': setting(64, [13, 29]),
  'fewer rows than a list holds': { ...setting(6, [1]), k: 4, anchors: 6 },
  'rows of unit norm': { ...setting(220, [13]), width: 67, kind: 'unit' },
};

function setting(rows: number, batches: readonly number[]): Setting {
  return { rows, width: 5, k: 4, tasks: 2, anchors: Math.ceil(rows / 5), batches, kind: 'whole' };
}

for (const [name, setting] of Object.entries(settings)) test(name, () => follow(name, setting));

test('similarities have the same bits from both ends, in all kernels, as lists need', async () => {
  const task = { memory: 300, anchors: 150, neighbours: 4, tasks: 2, listed: true };
  const { graph, memory } = traceSearch(task, 64, [64]);
  // Of the 300 rows drawn 10 are expected to be searched anew.
  const variants = [10, 64].flatMap((rows) => rowTileVariants(gpu.target, { rows, columns: 300, inner: 64, unit: 1 }));
  for (const variant of new Set(variants)) {
    const step = plan(graph, preferring(gpu.target, variant));
    assert.is(await similaritiesAgree(gpu, step, memory), true, variant);
  }
});

test('a kernel whose similarities differ from the others by one bit is noticed', async () => {
  const wrong = await openNodeGpu({ quiet: true });
  const create = wrong.device.createShaderModule.bind(wrong.device);
  // That which stores the similarities of new rows, from which they enter the lists of the others.
  const stored = /similarity\[at \+ x\] = (acc\[.*?\]);/g;
  wrong.device.createShaderModule = ({ code, ...rest }) =>
    create({ ...rest, code: code.replace(stored, 'similarity[at + x] = bitcast<f32>(bitcast<u32>($1) ^ 1u);') });
  try {
    const task = { memory: 60, anchors: 15, neighbours: 2, tasks: 1, listed: true };
    const { graph, memory } = traceSearch(task, 8, [5]);
    const step = plan(graph, gpu.target);
    assert.equal(
      [await similaritiesAgree(gpu, step, memory), await similaritiesAgree(wrong, step, memory)],
      [true, false],
    );
  } finally {
    await wrong.close();
  }
});

test('the kernels of lists in a step are those that the check at its start runs', async () => {
  const lavapipe = { ...defaultTarget, kind: 'lavapipe', subgroupSize: 8 } as const;
  const targets: Target[] = [
    lavapipe,
    { ...lavapipe, subgroupSize: 16 },
    preferring(lavapipe, '2 rows x 32'),
    { ...defaultTarget, kind: 'swiftshader', subgroupSize: 4 },
    defaultTarget,
    preferring({ ...defaultTarget, subgroupSize: 32 }, '4 rows x 32'),
  ];
  const data = { channels: 1, mean: [0.5], std: [0.5], residentBytes: null } as const;
  const set = ['sop.neighbour_search=graph'];
  for (const [preset, batchSize] of [
    ['vit-s', '4'],
    ['vit-s', '64'],
    ['quickstart', '64'],
  ] as const) {
    const config = await configFrom({ preset, batchSize, set });
    for (const target of targets) {
      const { plan: step, step: traced } = traceTraining(config, data, target);
      const told = `${preset} at ${batchSize} on ${target.kind} with ${target.subgroupSize} lanes`;
      const check = planCheck(step, traced.memory.cls);
      const checked = new Set(check?.plan.launches.map(({ kernel }) => kernel.source));
      const run = step.launches.filter(({ node }) => /^(stale|listed|update)_neighbours/.test(node.op.name));
      assert.ok(
        run.some(({ kernel }) => kernel.label === 'neighbours.search'),
        told,
      );
      const missing = run.filter(({ kernel }) => !checked.has(kernel.source)).map(({ kernel }) => kernel.label);
      assert.equal([...new Set(missing)], [], told);
    }
  }
});

test('one bit of a score, or one row, is a difference', () => {
  const lists = (scores: number[], rows = [1, 2, 0, 9]) => ({
    index: Uint32Array.from(rows),
    score: Float32Array.from(scores),
    length: Uint32Array.of(2, 1),
  });
  const [same, found] = [lists([0.5, 0.25, 0.125, 7]), lists([0.5, 0.25, 0.125, 8])];
  assert.is(sameLists(same, found), true, 'beyond its length a list says nothing');
  assert.is(sameLists(lists([0.5, 0.25 + 2 ** -25, 0.125, 7]), found), false);
  assert.is(sameLists(lists([0.5, 0.25, 0.125, 7], [1, 3, 0, 9]), found), false);
});

test.after(() => gpu.close());

test.run();

/** Steps of draws, searches and insertions; every ninth is one that was not finite. */
async function follow(name: string, setting: Setting): Promise<void> {
  const { rows, width, k, tasks, anchors, batches } = setting;
  const random = new Random(rows);
  const draw = rowSource(setting, random);
  const part = traceSearch({ memory: rows, anchors, neighbours: k, tasks, listed: true }, width, batches);
  const { graph, flag, inserted } = part;
  const { lists } = part.memory;
  if (!lists) throw new Error('the memory has lists');
  // After the memory has changed, as the lists have.
  const all = graph.constant(
    'all',
    [rows],
    Uint32Array.from({ length: rows }, (_, row) => row),
  );
  const full = graph.add(neighbours, [part.memory.rows, all], { k: Math.min(2 * k, rows - 1), search: 'all' });
  const found = part.found.flatMap(({ index, score }) => [index, score]);
  const watched = [...found, lists.index, lists.score, lists.length, ...full];
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, watched)), watched);
  const memory = draw(rows, 0);
  let pointer = random.below(rows);
  try {
    replay.write(part.memory.rows, Float32Array.from(memory));
    replay.write(part.memory.pointer, Uint32Array.of(pointer));
    for (const step of rounds(`steps of ${name}`, 60, 4000)) {
      const drawn = part.drawn.map(() => drawRows(rows, anchors, random));
      const batch = batches.map((count) => draw(count, step));
      const lost = step % 9 === 8;
      part.drawn.forEach((tensor, i) => {
        replay.write(tensor, Uint32Array.from(drawn[i]!));
      });
      inserted.forEach((tensor, i) => {
        replay.write(tensor, Float32Array.from(batch[i]!));
      });
      replay.write(flag, Uint32Array.of(lost ? 1 : 0));
      let results: Elements[] = [];
      const made = await creations(gpu.device, async () => {
        results = await replay.run();
      });
      assert.equal(made, [], 'a step creates nothing, with indirect dispatches neither');
      const at = `step ${step}`;
      drawn.forEach((task, i) => {
        const [index, score] = [results[2 * i]!, results[2 * i + 1]!];
        task.forEach((row, j) => {
          const range = [j * k, (j + 1) * k] as const;
          sameAsOnCpu(`${at}, row ${row}`, setting, memory, row, index.slice(...range), score.slice(...range));
        });
      });
      const [index, score, length, fullIndex, fullScore] = results.slice(found.length) as Elements[];
      const kept = { index: index!, score: score!, length: length! };
      assert.ok(sameLists(kept, { index: fullIndex!, score: fullScore! }), `${at}: a list is not the full search's`);
      if (lost) continue;
      for (const data of batch) {
        for (let i = 0; i < data.length / width; i++)
          memory.set(data.subarray(i * width, (i + 1) * width), ((pointer + i) % rows) * width);
        pointer = (pointer + data.length / width) % rows;
      }
    }
  } finally {
    replay.destroy();
  }
}

/** The k neighbours that the device found against the definition of the search. */
function sameAsOnCpu(
  at: string,
  { width, k, kind }: Setting,
  memory: Float64Array,
  anchor: number,
  index: Elements,
  score: Elements,
): void {
  const expected = ranking(memory, width, anchor);
  if (kind === 'whole') {
    const best = expected.slice(0, k);
    const rows = best.map(({ row }) => row);
    const scores = best.map((entry) => entry.score);
    assert.equal([[...index], [...score]], [rows, scores], at);
    return;
  }
  // The sum of 67 products of rows of unit norm is off by at most their number times half a unit of f32's last place.
  const rounding = width * 2 ** -24;
  const scoreOf = new Map(expected.map((entry) => [entry.row, entry.score]));
  assert.is(new Set(index).size, k, at);
  score.forEach((value, j) => {
    assert.ok(Math.abs(value - expected[j]!.score) <= rounding, `${at}: ${value} at place ${j}`);
    assert.ok(Math.abs(value - (scoreOf.get(index[j]!) ?? Number.NaN)) <= rounding, `${at}: row ${index[j]}`);
  });
}

/** Rows of the setting's kind; some repeat one that came before. */
function rowSource({ width, kind }: Setting, random: Random): (count: number, step: number) => Float64Array {
  const past: Float64Array[] = [];
  const centres = Array.from({ length: 3 }, () => Array.from({ length: width }, () => random.normal()));
  const fresh = (step: number): Float64Array => {
    if (kind === 'whole') return wholeRows(1, width, random);
    const centre = centres[random.below(centres.length)]!;
    // Rows at the start are anywhere; later ones are near their centre, which moves.
    for (let i = 0; i < width; i++) centre[i]! += 0.02 * random.normal();
    const values = centre.map((value) => (step > 0 ? 3 * value : 0) + random.normal());
    const norm = Math.hypot(...values);
    return Float64Array.from(values, (value) => Math.fround(value / norm));
  };
  return (count, step) => {
    const rows = new Float64Array(count * width);
    for (let i = 0; i < count; i++) {
      const row = past.length > 0 && random.below(8) === 0 ? past[random.below(past.length)]! : fresh(step);
      past.push(row);
      if (past.length > 100) past.shift();
      rows.set(row, i * width);
    }
    return rows;
  };
}
