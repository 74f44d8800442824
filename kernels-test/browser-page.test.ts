import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildSite, serveSite } from '../examples/browser/site.js';
import { decodeSafetensors, encodeSafetensors } from '../src/data/safetensors.js';
import { chromiumWorksHere, launchChromium, noChromium } from './chromium.js';
import { picture, temporaryFolder, writeTree } from './data-support.js';
import {
  downloads,
  drop,
  metricsLines,
  openPage,
  PATIENCE,
  quiet,
  reaches,
  ready,
  says,
  screenshot,
  scriptTimes,
  shownStep,
  stepLines,
  type WatchedPage,
} from './page-support.js';
import { long, rounds } from './rounds-support.js';
import { runCommand } from './run-command.js';

/**
 * The page of examples/browser in a real browser: a run from its start to its end, with everything that may come in between,
 * quiet and quick. Pictures of the main states go to dist/screenshots. In `npm run test:long` it also learns.
 */
if (chromiumWorksHere) {
  const folder = temporaryFolder();
  const siteFolder = pathToFileURL(`${join(folder, 'site')}/`);
  await buildSite(siteFolder);
  const site = await serveSite(siteFolder);
  const address = `http://localhost:${site.port}/`;
  const browser = await launchChromium();
  const main = await openPage(browser, address);
  const { page } = main;
  let weights = '';
  let unbroken: WatchedPage;

  test('it offers sizes with parameters, memory and speed for this adapter', async () => {
    await ready(main);
    const presets = await page.locator('#presets').innerText();
    for (const name of ['Nano', 'Small', 'Medium', 'ViT-S/16']) assert.ok(presets.includes(name), presets);
    assert.match(presets, /122 k parameters, \d+ MiB/);
    assert.match(presets, /≈ [\d.]+( [kM])? images\/s/);
    assert.match((await page.textContent('#adapter')) ?? '', /swiftshader/i);
    assert.match((await page.textContent('#set')) ?? '', /480 built-in drawings of textured shapes, 10 classes/);
    await screenshot(main, '1-ready');
  });

  test('30 steps on the built-in set, without a long task of its own script', async () => {
    await page.check('input[value=nano]');
    await browser.startTracing(page, { categories: ['devtools.timeline'] });
    await page.click('#start');
    await reaches(main, 30);
    const times = scriptTimes(await browser.stopTracing()).sort((a, b) => a - b);
    const at = (share: number): number =>
      times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? Number.NaN;
    console.log(`${times.length} tasks of the page's script: median ${at(0.5)} ms, 99th percentile ${at(0.99)} ms`);
    assert.ok(times.length > 30, `only ${times.length} tasks were seen`);
    assert.ok(at(0.99) <= 50, `99th percentile ${at(0.99)} ms`);
    assert.match((await page.textContent('#number-knn')) ?? '', /%/);
    assert.match((await page.textContent('#verdict')) ?? '', /of 48 directions/);
    await page.waitForSelector('#batch:not([hidden]) canvas');
  });

  test('pause stops at a step, resume goes on from it', async () => {
    await page.click('#pause');
    await says(main, 'Paused.');
    const step = await shownStep(main);
    await page.waitForTimeout(700);
    assert.is(await shownStep(main), step);
    await page.click('#pause');
    await reaches(main, step + 2);
    // By now every row of the memory has a picture: prototypes can be shown.
    await reaches(main, 33);
    await page.click('#pause');
    await says(main, 'Paused.');
    await page.waitForSelector('#organized:not([hidden]) progress');
  });

  test('a picture is looked at closer by keyboard, and its neighbour by a click', async () => {
    await page.focus('#map');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#closer:not([hidden]) #attention canvas');
    assert.is(await page.locator('#attention canvas').count(), 4); // the picture and three heads
    assert.is(await page.locator('#neighbours button').count(), 8);
    const title = await page.textContent('#closer-title');
    await page.click('#neighbours button:first-child');
    await page.waitForFunction((before) => document.getElementById('closer-title')?.textContent !== before, title);
    await screenshot(main, '2-trained');
    await page.click('#map-umap');
    await page.waitForFunction(() => document.getElementById('map-position')?.textContent === '');
    await page.click('#map-pca');
  });

  test('the command line reads the weights that the page wrote, and the page what the command line exports', async () => {
    weights = await downloads(main, '#save-weights', folder);
    const gallery = writeTree(join(folder, 'gallery'), {});
    for (const [i, colour] of [
      [255, 0, 0],
      [0, 0, 255],
    ].entries()) {
      mkdirSync(join(gallery, `class${i}`), { recursive: true });
      for (let n = 0; n < 4; n++)
        await picture(40, 32, 3, n, colour)
          .png()
          .toFile(join(gallery, `class${i}`, `${n}.png`));
    }
    const knn = await runCommand('eval', 'knn', '--weights', weights, '--data', gallery, '--k', '1', '--quiet');
    assert.is(knn.code, 0, knn.err);
    const other = await openPage(browser, address);
    await ready(other);
    const shown = await page.textContent('#number-knn');
    for (const [format, output, file] of [
      ['timm', join(folder, 'timm.safetensors'), join(folder, 'timm.safetensors')],
      ['hf', join(folder, 'hf'), join(folder, 'hf', 'model.safetensors')],
    ] as const) {
      const made = await runCommand('export', '--weights', weights, '--format', format, '--output', output);
      assert.is(made.code, 0, made.err);
      await drop(other, [file]);
      await says(other, 'These are opened weights. Start trains a new model.');
      assert.is(await other.page.textContent('#number-knn'), shown, `${format} gives other features`);
      await other.page.focus('#map');
      await other.page.keyboard.press('Enter');
      await other.page.waitForSelector('#closer:not([hidden])');
      await other.page.click('#use-shapes');
      await ready(other);
    }
    quiet(other);
    await other.context.close();
  });

  test('metrics come as JSON lines, one a step and one for the untrained model, and are read back', async () => {
    const path = await downloads(main, '#save-metrics', folder);
    const lines = metricsLines(path);
    assert.equal(
      stepLines(lines).map(({ step }) => step),
      Array.from({ length: await shownStep(main) }, (_, i) => i + 1),
    );
    const evaluations = lines.filter((line) => 'knn' in line);
    assert.is(evaluations[0]?.['step'], 0);
    assert.ok(evaluations.length > 1, 'the trained model was never evaluated');
    // A run that is not over keeps its own curves.
    await page.setInputFiles('#opened', path);
    await page.locator('#notice-note', { hasText: 'Stop it, then open the file again' }).waitFor();
    unbroken = await openPage(browser, address);
    await ready(unbroken);
    await unbroken.page.locator('#chart-loss[data-empty]').waitFor();
    await unbroken.page.setInputFiles('#opened', path);
    await unbroken.page.locator('#chart-loss:not([data-empty]) canvas').waitFor();
  });

  test('a file that is no weights costs a sentence, and nothing that is opened or pressed by a slip costs the run', async () => {
    const path = join(folder, 'no-weights.safetensors');
    writeFileSync(path, encodeSafetensors([{ name: 'x', dtype: 'F32', shape: [1], data: new Float32Array(1) }], []));
    await unbroken.page.setInputFiles('#opened', path);
    await unbroken.page.locator('#notice-file').waitFor();
    const step = await shownStep(main);
    const refused = async (what: RegExp, act: () => Promise<unknown>): Promise<void> => {
      await act();
      await page.locator('#notice-note', { hasText: what }).waitFor();
      await page.locator('#notice-note').getByText('Close').click();
    };
    await refused(/weights.safetensors would take the place.*open the file again/, () => drop(main, [path]));
    await refused(/built-in shapes would take the place.*choose them again/, () => page.click('#use-shapes'));
    await refused(/gallery would take the place/, () => drop(main, [join(folder, 'gallery')]));
    await says(main, 'Paused.');
    assert.is(await shownStep(main), step);
    await page.click('#pause');
    await reaches(main, step + 1);
    await page.click('#pause');
    await says(main, 'Paused.');
  });

  test('a reload offers to resume, and goes on with the step after', async () => {
    const step = await shownStep(main);
    // Pausing is told at once, and the step then written.
    await page.locator('#kept', { hasText: `Step ${step} is kept` }).waitFor();
    quiet(main);
    await page.reload();
    const offer = page.locator('#notice-kept button', { hasText: `Resume at step ${step}` });
    await offer.waitFor();
    await screenshot(main, '3-resume', false);
    await offer.click();
    await reaches(main, step + 1);
    await page.click('#pause');
    await says(main, 'Paused.');
    const path = await downloads(main, '#save-checkpoint', folder);
    const { metadata } = decodeSafetensors(readFileSync(path), 'checkpoint');
    assert.is(Number(metadata.get('step')), await shownStep(main));
  });

  test('a second tab leaves alone what the first one keeps', async () => {
    const second = await main.context.newPage();
    second.setDefaultTimeout(PATIENCE);
    await second.goto(address);
    await second.locator('#notice-note', { hasText: 'Another tab of this page keeps its run' }).waitFor();
    await second.waitForSelector('#start:not(:disabled)');
    assert.is(await second.locator('#notice-kept').count(), 0, 'it offers the run of the other tab');
    await second.close();
  });

  test('a lost device is told, and nothing is lost', async () => {
    const step = await shownStep(main);
    const worker = page.workers().find((one) => one.url().endsWith('session.worker.js'));
    await worker?.evaluate(() => (globalThis as unknown as { testDevice: GPUDevice }).testDevice.destroy());
    const notice = page.locator('#notice-device');
    await notice.waitFor();
    assert.match(await notice.innerText(), /The graphics device was lost.*Press “Go on”/s);
    await screenshot(main, '4-lost', false);
    await notice.getByText('Go on', { exact: true }).click();
    await reaches(main, step + 1);
  });

  test('paused, reloaded and with a lost device it computed the same as without, bit for bit', async () => {
    await page.click('#pause');
    await says(main, 'Paused.');
    const broken = stepLines(metricsLines(await downloads(main, '#save-metrics', folder)));
    await unbroken.page.check('input[value=nano]');
    await unbroken.page.click('#start');
    await reaches(unbroken, broken.length);
    await unbroken.page.click('#pause');
    await says(unbroken, 'Paused.');
    const whole = stepLines(metricsLines(await downloads(unbroken, '#save-metrics', folder)));
    quiet(unbroken);
    await unbroken.context.close();
    const numbers = ({ images_per_s, ...line }: Record<string, unknown>) => line;
    assert.ok(broken.length > 30);
    assert.equal(broken.map(numbers), whole.slice(0, broken.length).map(numbers));
    await page.click('#pause');
  });

  test('a hidden tab keeps what it has, and says what happened', async () => {
    const hide = (hidden: boolean): Promise<void> =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', { value, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await hide(true);
    await page.waitForFunction(() =>
      /is kept in this browser/.test(document.getElementById('kept')?.textContent ?? ''),
    );
    await hide(false);
    await page.locator('#notice-hidden').waitFor();
    assert.match((await page.textContent('#notice-hidden')) ?? '', /hidden.*keep (it|the tab) visible/s);
  });

  test('a full storage is told, and training goes on', async () => {
    await page.click('#stop');
    await says(main, 'Stopped.');
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Storage.overrideQuotaForOrigin', { origin: address.slice(0, -1), quotaSize: 1000 });
    await page.click('#start');
    const notice = page.locator('#notice-storage');
    await notice.waitFor();
    assert.match(await notice.innerText(), /storage of this page is full.*Training goes on.*Save weights/s);
    await screenshot(main, '5-storage', false);
    await reaches(main, 2);
    await page.click('#stop');
    await says(main, 'Stopped.');
    quiet(main);
  });

  if (long) {
    test('300 steps of the smallest size teach it the built-in set: k-NN rises by ten points at least', async () => {
      const other = await openPage(browser, address);
      other.page.setDefaultTimeout(20 * PATIENCE);
      await ready(other);
      await other.page.check('input[value=nano]');
      await other.page.click('#start');
      for (const step of rounds('steps of the page', 0, 300)) await reaches(other, step + 1);
      await other.page.click('#pause');
      await says(other, 'Paused.');
      await other.page.waitForSelector('#number-knn-before:has-text("untrained")');
      const percent = async (id: string): Promise<number> =>
        Number.parseFloat((await other.page.textContent(id)) ?? '');
      const [untrained, trained] = [await percent('#number-knn-before'), await percent('#number-knn')];
      console.log(`k-NN ${untrained} % untrained, ${trained} % after ${await shownStep(other)} steps`);
      assert.ok(trained >= untrained + 10, `${untrained} % before, ${trained} % after`);
      quiet(other);
      await other.context.close();
    });
  }

  test.after(async () => {
    await browser.close();
    await site.close();
  });
} else test('no browser tests here', () => console.log(`NOT RUN: ${noChromium}`));

test.run();
