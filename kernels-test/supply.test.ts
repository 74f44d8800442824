import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { projectFile } from './project.js';

/** What comes from elsewhere: exact versions, from the public registry, under licences that somebody looked at. */
const read = (name: string) => JSON.parse(readFileSync(projectFile(name), 'utf8'));

test('every dependency is pinned exactly', () => {
  const about = read('package.json');
  for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies']) {
    for (const [name, version] of Object.entries(about[kind])) {
      assert.match(String(version), /^\d+\.\d+\.\d+$/, `${name} ${version}`);
    }
  }
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.not(script in about.scripts, script);
});

test('the lock file holds a hash of every package, and names no registry but the public one', () => {
  const { packages } = read('package-lock.json') as { packages: Record<string, Record<string, unknown>> };
  for (const [path, { resolved, integrity, link }] of Object.entries(packages)) {
    if (path === '' || link) continue;
    assert.match(String(integrity), /^sha512-/, path);
    if (resolved !== undefined) assert.match(String(resolved), /^https:\/\/registry\.npmjs\.org\//, path);
  }
});

test('the licence of every installed package is one that somebody looked at', () => {
  const script = fileURLToPath(projectFile('bin/licences.js'));
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, '--json'], { encoding: 'utf8' });
  assert.is(status, 0, stderr);
  const rows = JSON.parse(stdout) as { name: string; licence: string; for: string }[];
  assert.ok(rows.some(({ name, for: whom }) => name === 'webgpu' && whom === 'users'));
});

test.run();
