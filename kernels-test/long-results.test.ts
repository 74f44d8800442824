import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LongResult, type LongRun, longRuns } from './long-results-support.js';
import { projectFile } from './project.js';

/** The committed results of `npm run test:long`: every part has one, with its full counts, and nothing in them failed. */
const nameOf = ({ file, adapter }: LongRun): string => (adapter ? `${adapter}/${file}` : file);

const files = readdirSync(projectFile('kernels-test'))
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.slice(0, -'.test.ts'.length));
const results = JSON.parse(readFileSync(projectFile('kernels-test/long-results.json'), 'utf8')) as LongResult[];

test('every long run has a result', () => {
  assert.equal(results.map(nameOf).sort(), longRuns(files).map(nameOf).sort());
});

for (const result of results) {
  test(`${nameOf(result)}: run to its end, nothing failed, on a commit without changes`, () => {
    const { commit, clean, date, finished, passed, failed, counts } = result;
    assert.match(commit, /^[0-9a-f]{40}$/);
    assert.is(clean, true);
    assert.ok(Number.isFinite(Date.parse(date)), date);
    assert.equal([finished, failed], [true, 0]);
    assert.ok(passed > 0);
    assert.ok(Object.keys(counts).length > 0);
  });
}

test.run();
