import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { openNodeGpu } from '../src/node.js';
import { traceOnDevice } from '../src/sop/search-check.js';
import { temporaryFolder } from './data-support.js';
import { greySet, interruptAt, metricsOf, sameRun, settings, trainTiny } from './tiny-run.js';

/** Runs that keep lists of neighbours against runs that search in full. */
const folder = temporaryFolder();
const grey = greySet(join(folder, 'grey'), 96);
const gpu = await openNodeGpu({ quiet: true });

test('lists of neighbours change nothing but the work, stopped and resumed, and from older checkpoints', async () => {
  const numbers = (out: string): unknown[] =>
    metricsOf(out).stepLines.map(({ images_per_s: _, recomputed_lists: __, ...line }) => line);
  const search = (kind: 'graph' | 'full') => ({
    data: grey,
    length: { steps: '9' },
    // Patches have neighbours in no recipe: the lists are those of [CLS].
    set: [`sop.neighbour_search=${kind}`, 'optim.accumulate=2', 'sop.patch.neighbours=0'],
  });
  const [lists, inFull] = [search('graph'), search('full')];
  const [listed, stopped, older, moved] = ['listed', 'stopped', 'older', 'moved'].map((name) => join(folder, name));
  const lines: string[] = [];
  await trainTiny(gpu, listed!, { ...lists, onLine: (line) => lines.push(line) });
  assert.match(lines.join('\n'), /search {6}\[CLS\] by lists of 4: /);
  assert.match(lines.join('\n'), /lists {4}\S+ searched anew a step, at most 8/);
  const counts = metricsOf(listed!).stepLines.map((line) => Number(line['recomputed_lists']));
  assert.is(counts[0], 8, 'at the start nothing is known');
  const all = metricsOf(listed!).evaluations;
  const after = counts.slice(all.at(-2)?.step ?? 0);
  const mean = after.reduce((sum, count) => sum + count, 0) / after.length;
  const { recomputed_lists_mean, recomputed_lists_max } = all.at(-1)!;
  assert.equal([recomputed_lists_mean, recomputed_lists_max], [mean, Math.max(...after)]);

  await trainTiny(gpu, stopped!, { ...lists, onLine: interruptAt(4) });
  await trainTiny(gpu, stopped!, { ...lists, resume: true });
  sameRun(stopped!, listed!);
  // Searched in full up to a checkpoint, which knows no lists.
  await trainTiny(gpu, older!, { ...inFull, onLine: interruptAt(4) });
  await trainTiny(gpu, older!, { ...lists, resume: true });
  assert.equal(numbers(older!), numbers(listed!));
  // On another adapter similarities may have other bits: what is known of the old ones counts no more.
  await trainTiny(gpu, moved!, { ...lists, onLine: interruptAt(4) });
  const { length } = metricsOf(moved!).stepLines;
  const elsewhere = { ...gpu, target: { ...gpu.target, name: 'another adapter' } };
  await trainTiny(elsewhere, moved!, { ...lists, resume: true });
  assert.equal(numbers(moved!), numbers(listed!));
  assert.ok(counts[length]! < 8, 'some of the drawn lists are known by then');
  assert.is(metricsOf(moved!).stepLines[length]!['recomputed_lists'], 8);
});

test('where lists cannot serve, the search is in full and says why', async () => {
  const lines: string[] = [];
  const set = ['sop.neighbour_search=graph', 'sop.search=non-anchors'];
  const options = { data: grey, set, length: { steps: '1' }, onLine: (line: string) => lines.push(line) };
  await trainTiny(gpu, join(folder, 'non-anchors'), options);
  assert.match(lines.join('\n'), /search {6}\[CLS\] in full: lists hold rows that sop\.search non-anchors leaves out/);
  const config = await configFrom({ steps: '1', batchSize: '8', set: [...settings, 'sop.neighbour_search=graph'] });
  const data = { channels: 1, mean: [0.5], std: [0.5], residentBytes: null } as const;
  assert.is((await traceOnDevice(gpu, config, data)).shape.cls.listed, true);
  const refused = await traceOnDevice(gpu, config, data, { agree: () => Promise.resolve(false) });
  assert.is(refused.shape.cls.listed, false);
  assert.match(refused.searches.join(), /in full: on this adapter a similarity depends on the end/);
});

test.after(() => gpu.close());

test.run();
