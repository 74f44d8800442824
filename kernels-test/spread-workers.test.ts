import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { allowedCores, lavapipeWorkers, threads } from '../src/node/spread-workers.js';
import { openNodeGpu } from '../src/node.js';

test('the cores of a process are read from its status', () => {
  const status = (list: string): string =>
    `Name:\tnode\nCpus_allowed:\tff\nCpus_allowed_list:\t${list}\nMems_allowed:\t1\n`;
  assert.equal(allowedCores(status('0-1')), [0, 1]);
  assert.equal(allowedCores(status('3')), [3]);
  assert.equal(allowedCores(status('0-2,8,10-11')), [0, 1, 2, 8, 10, 11]);
});

test('of the last adapter the threads after those that draw are the workers', () => {
  const named = (names: string): { id: string; name: string }[] =>
    names.split(' ').map((name, id) => ({ id: String(id), name }));
  const ids = (names: string): string[] => lavapipeWorkers(named(names)).map(({ id }) => id);
  assert.equal(ids('node node node llvmpipe-0 llvmpipe-1 node node node:disk$0'), ['5', '6']);
  assert.equal(ids('node llvmpipe-0 node node llvmpipe-0 llvmpipe-1 llvmpipe-2 node node node node'), ['7', '8', '9']);
  assert.equal(ids('node node'), []);
});

test("lavapipe's workers have a core each, where there are as many of both and taskset to do it", async () => {
  const gpu = await openNodeGpu({ quiet: true });
  const cores = process.platform === 'linux' ? allowedCores(readFileSync('/proc/self/status', 'utf8')) : [];
  const workers = process.platform === 'linux' ? lavapipeWorkers(threads()) : [];
  const given = workers.map(({ id }) => allowedCores(readFileSync(`/proc/self/task/${id}/status`, 'utf8')));
  const spread =
    gpu.target.kind === 'lavapipe' &&
    workers.length > 1 &&
    workers.length === cores.length &&
    spawnSync('taskset', ['--version']).status === 0;
  assert.equal(
    given,
    workers.map((_, i) => (spread ? [cores[i]] : cores)),
  );
  await gpu.close();
});

test.run();
