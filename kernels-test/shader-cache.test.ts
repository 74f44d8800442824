import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { keepShaders } from '../src/node/shader-cache.js';
import { temporaryFolder } from './data-support.js';

/** Where Mesa keeps its compiled shaders: told by its environment, and only where its own place is of no use. */
const folder = temporaryFolder();
const told = ['MESA_SHADER_CACHE_DIR', 'MESA_SHADER_CACHE_DISABLE'] as const;

/** What Mesa is told in this environment. */
function toldIn(environment: Readonly<Record<string, string>>): (string | undefined)[] {
  const names = [...told, 'HOME', 'XDG_CACHE_HOME', 'TMPDIR'];
  const before = names.map((name) => [name, process.env[name]] as const);
  for (const name of names) delete process.env[name];
  Object.assign(process.env, environment);
  try {
    keepShaders();
    return told.map((name) => process.env[name]);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

test('Mesa keeps its shaders in the cache folder, else in ours for temporary files, else nowhere', () => {
  if (process.platform !== 'linux') return console.log('NOT RUN: only on Linux');
  const home = join(folder, 'home');
  assert.equal(toldIn({ HOME: home, TMPDIR: folder }), [undefined, undefined]);
  assert.ok(existsSync(join(home, '.cache')));
  for (const useless of [{ HOME: '/proc/none' }, { HOME: '' }, { HOME: home, XDG_CACHE_HOME: '/proc/none' }]) {
    const [place = '', disabled] = toldIn({ ...useless, TMPDIR: folder });
    assert.ok(place.startsWith(`${folder}/sop-gpu-`), place);
    assert.equal([statSync(place).mode & 0o777, disabled], [0o700, undefined]);
  }
  assert.equal(toldIn({ HOME: '/proc/none', TMPDIR: '/proc/none' }), [undefined, 'true']);
  const own = { HOME: '/proc/none', TMPDIR: folder, MESA_SHADER_CACHE_DIR: '/elsewhere' };
  assert.equal(toldIn(own), ['/elsewhere', undefined]);
});

test.run();
