import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { browserBuild } from '../examples/bundle.js';
import { fields } from '../src/config/keys.js';
import { root } from './project.js';

/** What a page has to load: the size of the bundle, that nothing of Node is in it, and that unused parts fall away. */

/** Engine and training with everything that a page of its own needs; `ops` brings every kernel. */
const TRAINING = [
  ...['createEngine', 'planTraining', 'ops', 'configOf', 'settingsOf', 'loadWeights', 'metricsLine', 'evaluationLine'],
  ...[
    'pictureSet',
    'decodePicture',
    'residentSet',
    'CheckpointStore',
    'encodeSafetensors',
    'decodeSafetensors',
    'SopError',
  ],
];
const LIMIT = 90_000;

async function bundle(names: readonly string[]) {
  const contents = `export { ${names.join(', ')} } from './src/index.ts';`;
  const result = await build({ ...browserBuild, stdin: { contents, resolveDir: fileURLToPath(root) }, write: false });
  const bytes = result.outputFiles[0]?.contents ?? new Uint8Array();
  return { bytes, gzip: gzipSync(bytes, { level: 9 }).length, inputs: Object.keys(result.metafile.inputs) };
}

test('engine and training fit into 90 kB of gzip', async () => {
  const { gzip, inputs, bytes } = await bundle(TRAINING);
  console.log(`bundle: ${gzip} bytes gzip, ${bytes.length} plain, of ${inputs.length} files`);
  assert.ok(gzip <= LIMIT, `${gzip} bytes gzip, at most ${LIMIT} allowed`);
  const shaders = inputs.filter((name) => name.startsWith('shaders/') && name.endsWith('.wgsl.ts'));
  assert.ok(shaders.length >= 28, `only ${shaders.length} shader files: the bundle does not hold every kernel`);
});

test('no module of Node and no package for the command line is in the graph', async () => {
  // esbuild refuses node:* for the platform `browser`; what it took is listed.
  const { inputs } = await bundle(['createEngine']);
  const foreign = inputs.filter(
    (name) => /node_modules/.test(name) && !/node_modules\/(valibot|wgsl-preprocessor)\//.test(name),
  );
  assert.equal(foreign, []);
  assert.equal(
    inputs.filter((name) => /src\/(cli|node|data\/node)/.test(name)),
    [],
  );
});

test('WGSL comes without comments', async () => {
  const { bytes } = await bundle(['ops']);
  const text = new TextDecoder().decode(bytes);
  assert.ok(text.includes('@compute'), 'no WGSL in the bundle');
  assert.not.match(text, /(^|\s)\/\/ /m);
});

test('of the configuration only what --help says is left out', async () => {
  const { bytes } = await bundle(['configOf']);
  const text = new TextDecoder().decode(bytes);
  const helps = [...fields.values()].map(({ help }) => help);
  assert.ok(helps.length > 70);
  assert.equal(
    helps.filter((help) => text.includes(help)),
    [],
  );
  // Why a value is refused is said in pages too.
  assert.ok(text.includes('since model.arch is custom'));
});

test('what is not used falls away', async () => {
  const { gzip } = await bundle(['decodeSafetensors']);
  assert.ok(gzip < 6_000, `${gzip} bytes gzip for reading safetensors alone`);
});

test.run();
