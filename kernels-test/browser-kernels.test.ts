import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { browserBuild } from '../examples/bundle.js';
import { chooseAdapter } from '../src/node.js';
import type { WorkerReport } from './browser/kernels.worker.js';
import { trainingLosses } from './browser/training-case.js';
import { chromiumWorksHere, launchChromium, noChromium, serve } from './chromium.js';
import { opTests } from './index.js';
import { projectFile } from './project.js';
import { showCase } from './traced.js';

/**
 * All kernel cases inside a real browser, in a dedicated worker, with the tolerances they have in Node; and a training whose
 * losses are those of Node on the same family of adapter. The cases run once; each is a test of its own here.
 */
if (chromiumWorksHere) {
  const reports = await runInBrowser();
  const end = reports.find((report) => report.kind === 'end');
  const results = reports.filter((report) => report.kind === 'case');

  test('the worker came to its end, on SwiftShader with subgroups', () => {
    assert.is(end?.error, null, end?.error ?? 'the worker fell silent');
    const adapter = reports.find((report) => report.kind === 'adapter');
    assert.match(adapter?.name ?? '', /swiftshader/i);
    assert.is(adapter?.subgroupSize, 4);
  });

  const cases = opTests.flatMap((op) => op.cases.map((testCase) => showCase(op, testCase)));
  cases.forEach((name, i) => {
    test(name, () => {
      assert.is(results[i]?.name, name, 'the worker did not come this far');
      assert.is(results[i]?.error, null, results[i]?.error ?? '');
    });
  });

  test('a training gives the same losses in the browser and in Node', async () => {
    const inBrowser = reports.find((report) => report.kind === 'losses')?.losses ?? [];
    const { adapter } = await chooseAdapter('swiftshader');
    const inNode = await trainingLosses({ gpu: adapter });
    assert.is(inNode.length, 4);
    assert.is(inBrowser.length, inNode.length);
    inNode.forEach((losses, step) => {
      losses.forEach((loss, i) => {
        const got = inBrowser[step]?.[i] ?? Number.NaN;
        assert.ok(
          Math.abs(got - loss) <= 1e-5 * Math.abs(loss),
          `step ${step + 1}: ${got} in the browser, ${loss} in Node`,
        );
      });
    });
  });
} else test('no browser tests here', () => console.log(`NOT RUN: ${noChromium}`));

async function runInBrowser(): Promise<WorkerReport[]> {
  const entry = fileURLToPath(projectFile('kernels-test/browser/kernels.worker.ts'));
  const { outputFiles } = await build({ ...browserBuild, entryPoints: [entry], write: false });
  const server = await serve({
    '/': { type: 'text/html', body: '<!doctype html><title>kernels</title>' },
    '/worker.js': { type: 'text/javascript', body: outputFiles[0]?.contents ?? '' },
  });
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    await page.goto(`http://localhost:${server.port}/`);
    return await page.evaluate(
      () =>
        new Promise<WorkerReport[]>((resolve) => {
          const reports: WorkerReport[] = [];
          const worker = new Worker('/worker.js', { type: 'module' });
          const finish = (error: string): void => resolve([...reports, { kind: 'end', error }]);
          worker.onerror = (event) => finish(event.message);
          worker.onmessage = ({ data }: MessageEvent<WorkerReport>) => {
            reports.push(data);
            if (data.kind === 'end') resolve(reports);
          };
        }),
    );
  } finally {
    await browser.close();
    await server.close();
  }
}

test.run();
