import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LongResult, type LongRun, longRuns } from './long-results-support.js';
import { projectFile } from './project.js';

/** The committed results of `npm run test:long`: nothing in them failed, and what has no result yet is said here. */
const nameOf = ({ file, adapter }: LongRun): string => (adapter ? `${adapter}/${file}` : file);

/** Not run to their end with their full counts yet. */
const open: readonly string[] = [
  ...['browser-page', 'fuzz'],
  ...[
    'swiftshader/killed-command',
    'swiftshader/long-runs',
    'swiftshader/neighbour-graph',
    'swiftshader/random-shapes',
  ],
  ...['llvmpipe/killed-command', 'llvmpipe/random-shapes'],
];

const files = readdirSync(projectFile('kernels-test'))
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.slice(0, -'.test.ts'.length));
const results = JSON.parse(readFileSync(projectFile('kernels-test/long-results.json'), 'utf8')) as LongResult[];

test('every long run has a result, but for those that are known to be open', () => {
  const finished = results.filter(({ finished }) => finished).map(nameOf);
  const expected = longRuns(files).map(nameOf);
  assert.equal(expected.filter((name) => !finished.includes(name)).sort(), [...open].sort());
  assert.equal(
    results.map(nameOf).filter((name) => !expected.includes(name)),
    [],
  );
});

for (const result of results) {
  test(`${nameOf(result)}: nothing failed, on a commit without changes`, () => {
    const { commit, clean, date, finished, passed, failed, counts } = result;
    assert.match(commit, /^[0-9a-f]{40}$/);
    assert.is(clean, true);
    assert.ok(Number.isFinite(Date.parse(date)), date);
    assert.is(failed, 0);
    assert.ok(!finished || passed > 0);
    assert.ok(Object.keys(counts).length > 0);
  });
}

test.run();
