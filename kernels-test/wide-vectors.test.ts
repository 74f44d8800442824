import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hasWideVectors } from '../src/node/wide-vectors.js';
import { openNodeGpu } from '../src/node.js';
import { temporaryFolder } from './data-support.js';

const module = new URL('../src/node/wide-vectors.js', import.meta.url).href;
const core = 'processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl\n';
const wide =
  process.platform === 'linux' && process.arch === 'x64' && hasWideVectors(readFileSync('/proc/cpuinfo', 'utf8'));

/** Width and cache folder that a new process with these variables sets. */
function chosen(environment: Record<string, string>, modelWidth = ''): (string | undefined)[] {
  const { LP_NATIVE_VECTOR_WIDTH: _, MESA_SHADER_CACHE_DIR: __, ...rest } = process.env;
  const script = `import { widenVectors } from ${JSON.stringify(module)};
    widenVectors(${modelWidth});
    console.log(JSON.stringify([process.env.LP_NATIVE_VECTOR_WIDTH, process.env.MESA_SHADER_CACHE_DIR]));`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    env: { ...rest, ...environment },
    encoding: 'utf8',
  });
  return (JSON.parse(stdout) as (string | null)[]).map((value) => value ?? undefined);
}

test('processors with all of AVX-512 that LLVM needs are told from others', () => {
  assert.ok(hasWideVectors(core + core));
  assert.not.ok(hasWideVectors(core + core.replace(' avx512vl', '')));
  assert.not.ok(hasWideVectors(core.replaceAll('avx512', 'avx5120')));
  assert.not.ok(hasWideVectors(''));
});

test('code for each width is kept in a folder of its own, which a process passes on', () => {
  const caches = temporaryFolder();
  const [width, folder] = chosen({ XDG_CACHE_HOME: caches });
  assert.equal([width, folder], wide ? ['512', join(caches, 'sop-gpu', 'lavapipe-512')] : [undefined, undefined]);
  if (folder) assert.ok(existsSync(folder));
  assert.is(chosen({ XDG_CACHE_HOME: caches }, '384')[0], wide ? '512' : undefined);
  assert.is(chosen({ XDG_CACHE_HOME: caches }, '64')[0], wide ? '256' : undefined);

  const own = { LP_NATIVE_VECTOR_WIDTH: '128', MESA_SHADER_CACHE_DIR: caches };
  const passedOn = { ...own, MESA_SHADER_CACHE_DIR: join(caches, 'lavapipe-128') };
  assert.equal(chosen(own), Object.values(passedOn));
  assert.equal(chosen(passedOn), Object.values(passedOn));
});

test('lavapipe has as many lanes as its vectors hold numbers', async () => {
  const gpu = await openNodeGpu({ quiet: true });
  const bits = process.env['LP_NATIVE_VECTOR_WIDTH'];
  if (gpu.target.kind === 'lavapipe' && bits) assert.is(gpu.target.subgroupSize, Number(bits) / 32);
  assert.is(gpu.target.kind === 'lavapipe', / lanes$/.test(gpu.target.name));
  await gpu.close();
});

test.run();
