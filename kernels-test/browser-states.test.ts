import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildSite, serveSite } from '../examples/browser/site.js';
import { chromiumWorksHere, launchChromium, noChromium } from './chromium.js';
import { picture, temporaryFolder, writeTree } from './data-support.js';
import { accessibilityProblems, drop, openPage, quiet, ready, screenshot } from './page-support.js';

/** The page before anything is trained: where its pictures come from, on a phone and in the dark, and where it cannot compute. */
if (chromiumWorksHere) {
  const folder = temporaryFolder();
  const siteFolder = pathToFileURL(`${join(folder, 'site')}/`);
  await buildSite(siteFolder);
  const site = await serveSite(siteFolder);
  const address = `http://localhost:${site.port}/`;
  const browser = await launchChromium();
  const main = await openPage(browser, address);
  const { page } = main;

  test('pictures of ones own: folders are classes; what is no picture is named', async () => {
    const own = writeTree(join(folder, 'own'), { 'cats/broken.png': 'no picture' });
    for (const name of ['cats', 'dogs']) {
      mkdirSync(join(own, name), { recursive: true });
      for (let n = 0; n < 10; n++)
        await picture(50, 40, 3, n)
          .png()
          .toFile(join(own, name, `${n}.png`));
    }
    await page.setInputFiles('#folder', own);
    await page.waitForFunction(() => /2 classes/.test(document.getElementById('set')?.textContent ?? ''));
    await page.locator('#notice-note', { hasText: /1 file is no picture.*cats\/broken\.png/ }).waitFor();
    await page.locator('#notice-note').getByText('Close').click();
    await drop(main, [join(own, 'dogs')]);
    await page.waitForFunction(() => /^dogs, no classes/.test(document.getElementById('set')?.textContent ?? ''));
  });

  test('a webcam that is granted after its dialog was closed is switched off', async () => {
    const states = await page.evaluate(async () => {
      const { mediaDevices } = navigator;
      const granted = new Promise<MediaStream>((resolve) => {
        const ask = mediaDevices.getUserMedia.bind(mediaDevices);
        mediaDevices.getUserMedia = async (wanted) => {
          mediaDevices.getUserMedia = ask;
          const stream = await ask(wanted);
          resolve(stream);
          return stream;
        };
      });
      for (const id of ['use-camera', 'camera-close']) document.getElementById(id)?.click();
      const stream = await granted;
      await new Promise((resolve) => setTimeout(resolve));
      return stream.getTracks().map(({ readyState }) => readyState);
    });
    assert.equal(states, ['ended']);
  });

  test('the webcam gives pictures', async () => {
    await page.click('#use-camera');
    await page.waitForFunction(() => (document.getElementById('camera-video') as HTMLVideoElement).videoWidth > 0);
    await page.click('#camera-take');
    await page.waitForFunction(() => !(document.getElementById('camera-use') as HTMLButtonElement).disabled);
    await screenshot(main, '6-camera', false);
    await page.click('#camera-use');
    await page.waitForFunction(() => /pictures of the webcam/.test(document.getElementById('set')?.textContent ?? ''));
    await ready(main);
    quiet(main);
  });

  for (const scheme of ['light', 'dark'] as const) {
    test(`names, contrast and keyboard: ${scheme}, on a phone`, async () => {
      const other = await openPage(browser, address, { dark: scheme === 'dark', phone: true });
      await ready(other);
      assert.equal(await accessibilityProblems(other), []);
      const wide = await other.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `the page is ${wide} pixels wider than the screen`);
      const reached = new Set<string>();
      for (let i = 0; i < 25; i++) {
        await other.page.keyboard.press('Tab');
        reached.add(await other.page.evaluate(() => document.activeElement?.id ?? ''));
      }
      for (const id of ['use-shapes', 'start', 'open-file', 'map'])
        assert.ok(reached.has(id), `Tab never comes to #${id}`);
      await other.page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
      await screenshot(other, `7-phone-${scheme}`);
      quiet(other);
      await other.context.close();
    });
  }

  test('without WebGPU, and over an insecure connection, a sentence says what to do', async () => {
    const without = await openPage(browser, address, {
      prepare: () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined }),
    });
    await without.page.locator('#notice-device').waitFor();
    assert.match((await without.page.textContent('#notice-device')) ?? '', /no WebGPU\. Use a current Chrome/);
    assert.ok(await without.page.isHidden('#start'));
    await screenshot(without, '8-no-webgpu', false);
    quiet(without);
    await without.context.close();
    const unusable = await openPage(browser, address, {
      inWorker: 'GPU.prototype.requestAdapter = () => Promise.resolve(null);',
    });
    await unusable.page.locator('#notice-device').waitFor();
    assert.match(
      (await unusable.page.textContent('#notice-device')) ?? '',
      /finds no graphics device.*Switch on graphics/,
    );
    assert.ok(await unusable.page.isHidden('#start'));
    quiet(unusable);
    await unusable.context.close();
    const insecure = await openPage(browser, `http://insecure.test:${site.port}/`);
    await insecure.page.locator('#notice-device').waitFor();
    assert.match((await insecure.page.textContent('#notice-device')) ?? '', /insecure connection.*Open it over https/);
    await screenshot(insecure, '9-insecure', false);
    await insecure.context.close();
  });

  test('its policy allows nothing but its own files', async () => {
    const policy = (await fetch(address)).headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'/);
    assert.not.match(policy, /unsafe|\*/);
  });

  test.after(async () => {
    await browser.close();
    await site.close();
  });
} else test('no browser tests here', () => console.log(`NOT RUN: ${noChromium}`));

test.run();
