import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { collapse } from '../src/eval/collapse.js';
import { openNodeGpu } from '../src/node.js';
import { temporaryFolder } from './data-support.js';
import { greySet, metricsOf, trainTiny } from './tiny-run.js';

/** Trainings that learn and trainings that collapse: which are told. */
const folder = temporaryFolder();
const gpu = await openNodeGpu({ quiet: true });
const grey = greySet(join(folder, 'grey'), 96);

// Measured on 1,600 images of Fashion-MNIST, lavapipe: [features' deviation, effective rank, teacher's entropy of ln 128].
const measured: readonly (readonly [name: string, collapsed: boolean, ...numbers: [number, number, number]])[] = [
  ['quickstart, step 100', false, 0.586, 27.9, 3.751],
  ['quickstart, step 300', false, 0.643, 27.7, 3.483],
  ['quickstart with fixed anchors, step 300, as good as the others so far', false, 0.642, 27.3, 3.513],
  ['width 32, [CLS] alone, step 500', false, 0.626, 13.1, 3.609],
  ['the same without momentum, step 500: worse, but no collapse', false, 0.534, 10.6, 4.359],
  ['the same at 100 times the learning rate, step 300: k-NN fell from 41 to 32 %', true, 0.541, 2.1, 3.835],
  ['the same without momentum at 30 times the rate, step 400', true, 0.063, 2.13, 4.8485],
];
for (const [name, collapsed, featureStd, effectiveRank, entropy] of measured) {
  test(name, () => assert.is(collapse({ featureStd, effectiveRank }, entropy, 128, 1600) !== null, collapsed));
}

test('the same features for all, or the same answer of the teacher, are a collapse as well', () => {
  assert.match(collapse({ featureStd: 0.01, effectiveRank: 9 }, 3, 128, 10) ?? '', /nearly the same features/);
  assert.match(collapse({ featureStd: 0.5, effectiveRank: 9 }, 1e-6, 128, 10) ?? '', /certain of one prototype/);
  // The features of one image have no spread, those of three two directions at most.
  assert.is(collapse({ featureStd: 0, effectiveRank: 1 }, 3, 128, 1), null);
  assert.is(collapse({ featureStd: 0.5, effectiveRank: 2 }, 3, 128, 3), null);
});

for (const [what, set, told] of [
  ['a training that learns', [], 0],
  ['a training at a rate much too high', ['optim.lr=10'], 1],
] as const) {
  test(`${what} is told of ${told} times`, async () => {
    const out = join(folder, what);
    const lines: string[] = [];
    await trainTiny(gpu, out, { data: grey, length: { steps: '36' }, set, onLine: (line) => lines.push(line) });
    const ranks = metricsOf(out).evaluations.map((line) => Number(line['effective_rank']));
    assert.is(ranks.length, 3);
    const warnings = lines.filter((line) => line.includes('training has collapsed'));
    assert.is(warnings.length, told, `effective ranks ${ranks}`);
  });
}

test.run();
