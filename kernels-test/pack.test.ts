import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runFolder } from '../src/cli/run-folder.js';
import { picture, temporaryFolder, writeTree } from './data-support.js';
import { root } from './project.js';

/**
 * What users get: the packed package, installed without development dependencies into an empty folder, trains. Needs a
 * registry, or npm's cache, for the dependencies: without either it fails and says so.
 */
const folder = temporaryFolder();
const app = writeTree(join(folder, 'app'), { 'package.json': '{ "private": true, "type": "module" }' });

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function start(command: string, argv: readonly string[], cwd: string): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(command, argv, { cwd, maxBuffer: 2 ** 26 }, (error, out, err) => {
      const code = typeof error?.code === 'number' ? error.code : error ? 1 : 0;
      resolve({ code, out, err });
    });
  });
}

async function succeeds(command: string, ...argv: string[]): Promise<string> {
  const { code, out, err } = await start(command, argv, app);
  assert.is(code, 0, `${command} ${argv.join(' ')}\n${out}${err}`);
  return out;
}

/** npx that starts what is installed and fetches nothing. */
const installed = (...argv: string[]): Promise<string> => succeeds('npx', '--no-install', 'sop-gpu', ...argv);

test('the package holds what it needs, of the tests only the references that bench checks against', async () => {
  // `npm test` has built dist/ just now: no need to do it again before packing.
  const packed = await start(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', folder],
    fileURLToPath(root),
  );
  assert.is(packed.code, 0, packed.err);
  const [{ files }] = JSON.parse(packed.out) as [{ readonly files: readonly { readonly path: string }[] }];
  const paths = files.map(({ path }) => path);
  for (const path of ['LICENSE', 'bin/sop-gpu', 'bin/launch.js', 'dist/src/index.js', 'dist/src/index.d.ts', 'presets'])
    assert.ok(
      paths.some((each) => each === path || each.startsWith(`${path}/`)),
      `${path} is not packed`,
    );
  const strangers = paths.filter((path) =>
    /\.test\.|-support|harness|interpreter|soak|tiny-run|fixtures|peers|tsbuildinfo|^(src|shaders|kernels-test|bench|runs)\//.test(
      path,
    ),
  );
  assert.equal(strangers, [], 'packed by mistake');
});

test('it installs without development dependencies', async () => {
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'));
  assert.ok(tarball, 'nothing was packed');
  const flags = ['--omit=dev', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const { code, err } = await start('npm', ['install', ...flags, join(folder, tarball!)], app);
  const unreachable = /E(AI_AGAIN|NOTFOUND|CONNREFUSED|CONNRESET|TIMEDOUT|NOTCACHED)|network/.test(err);
  assert.is(code, 0, unreachable ? `neither the registry nor npm's cache has the dependencies:\n${err}` : err);
});

test('a page of one’s own has engine, training and every kernel in 95 kB of gzip, with a bundler that knows nothing of us', async () => {
  const contents = `export { createEngine, pictureSet, ops } from 'sop-gpu';`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: app },
    ...{ bundle: true, minify: true, format: 'esm', platform: 'browser', write: false },
  });
  const gzip = gzipSync(outputFiles[0]?.contents ?? '', { level: 9 }).length;
  assert.ok(gzip > 50_000 && gzip <= 95_000, `${gzip} bytes`);
});

test('library, doctor, bench and training work from there', async () => {
  const script = `import { ExitCode, SopError } from 'sop-gpu';
    const error = new SopError(ExitCode.data, { what: 'a', where: 'b', why: 'c', fix: 'd' });
    console.log(error instanceof Error, error.exitCode, error.message);`;
  assert.is(await succeeds(process.execPath, '--input-type=module', '-e', script), 'true 65 a (b): c; d\n');
  assert.match(
    await succeeds(process.execPath, '-e', `import('sop-gpu/node').then((m) => console.log(typeof m.openNodeGpu))`),
    /function/,
  );
  assert.match(await installed('doctor'), /adapter/i);
  assert.match(await installed('bench', 'softmax', '--shape', '33x7'), /softmax +backward +33x7/);

  const images = await Promise.all(
    Array.from(
      { length: 8 },
      async (_, i) =>
        [
          `${i}.png`,
          await picture(32, 32, 3, i + 1)
            .png()
            .toBuffer(),
        ] as const,
    ),
  );
  const data = writeTree(join(folder, 'images'), Object.fromEntries(images));
  const settings = [
    ...['model.arch=custom', 'model.width=16', 'model.depth=1', 'model.heads=2', 'model.patch_size=16'],
    ...['model.image_size=32', 'mask.ratio=0.5', 'views.local_count=0', 'head.hidden=16', 'head.out=8', 'eval.k=1'],
    ...['sop.cls.memory=16', 'sop.cls.anchors=4', 'sop.cls.neighbours=2', 'sop.patch.memory=16', 'sop.patch.anchors=4'],
  ].flatMap((setting) => ['--set', setting]);
  await installed('train', '--data', data, '--out', 'run', '--steps', '3', '--batch-size', '4', ...settings);
  const lines = readFileSync(runFolder(join(app, 'run')).metrics, 'utf8')
    .trimEnd()
    .split('\n');
  const losses = lines.map((line) => JSON.parse(line)).flatMap(({ loss }) => loss ?? []);
  assert.is(losses.length, 3);
  assert.ok(losses.every(Number.isFinite), String(losses));
});

test.run();
