import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { browserBuild } from '../examples/bundle.js';
import { makeReference } from '../examples/reference.js';
import type { SnippetResults } from './browser/snippets.page.js';
import { chromiumWorksHere, launchChromium, noChromium, serve } from './chromium.js';
import { projectFile } from './project.js';

/** The snippets of the reference run as they stand, importing `sop-gpu` as a page does; and the reference is up to date. */

test('examples/reference.md is what the script makes', () => {
  const file = readFileSync(projectFile('examples/reference.md'), 'utf8');
  assert.ok(file === makeReference(), 'it is stale: run `npm run reference`');
});

test('every class and function of the reference is described', () => {
  const bare = [...makeReference().matchAll(/^### `(.*)`\n\n```ts\n[^`]*```\n\n(?=#)/gm)].map((match) => match[1]);
  assert.equal(bare, []);
});

test('every type that the reference names is in it', () => {
  const text = makeReference();
  const code = [...text.matchAll(/```ts\n(.*?)```/gs)].map(([, block = '']) => block).join('\n');
  const bare = code.replace(/\/\*\*.*?\*\/|\/\/[^\n]*|'[^'\n]*'/gs, '');
  const described = [...text.matchAll(/^(?:### |- )`(\w+)`/gm)].map(([, name]) => name);
  const everywhere =
    /^([A-Z]|Promise|Error(Options)?|(Weak|Readonly)?Map|Readonly|Record|Iterable|ArrayLike|Pick|Omit|\w*Array(Buffer)?|Abort\w+|Blob|File|Image(Bitmap|Data)|GPU[A-Z]\w+|GPU|STORAGE|COPY_(SRC|DST))$/;
  const unknown = [...new Set(bare.match(/\b[A-Z]\w*\b/g))].filter(
    (name) => !everywhere.test(name) && !described.includes(name),
  );
  assert.equal(unknown, []);
});

if (chromiumWorksHere) {
  test('the snippets embed, train and run a kernel', async () => {
    const entry = fileURLToPath(projectFile('kernels-test/browser/snippets.page.ts'));
    const { outputFiles } = await build({ ...browserBuild, entryPoints: [entry], write: false });
    const server = await serve({
      '/': {
        type: 'text/html',
        body: '<!doctype html><title>snippets</title><script type="module" src="page.js"></script>',
      },
      '/page.js': { type: 'text/javascript', body: outputFiles[0]?.contents ?? '' },
    });
    const browser = await launchChromium();
    try {
      const page = await browser.newPage({ locale: 'en-US' });
      await page.goto(`http://localhost:${server.port}/`);
      const results = await page.evaluate(() =>
        (globalThis as unknown as { runSnippets(): Promise<SnippetResults> }).runSnippets(),
      );
      assert.is(results.losses.length, 3);
      assert.ok(results.losses.every(Number.isFinite));
      assert.equal([results.count, results.width], [5, 32]);
      assert.match(results.closed, /^SopError: image cannot be decoded \(picture\): .*detached; leave it out/);
      for (const norm of results.norms) assert.ok(Math.abs(norm - 1) < 1e-5, `a feature has squared norm ${norm}`);
      const exponentials = [1, 2, 3].map((x) => Math.exp(x - 3));
      const sum = exponentials.reduce((a, b) => a + b);
      const expected = [...exponentials.map((value) => value / sum), 1 / 3, 1 / 3, 1 / 3];
      results.softmax.forEach((value, i) => {
        assert.ok(Math.abs(value - expected[i]!) < 1e-6, `${value}, expected ${expected[i]}`);
      });
    } finally {
      await browser.close();
      await server.close();
    }
  });
} else console.log(`NOT RUN: ${noChromium}`);

test.run();
