import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import * as assert from 'uvu/assert';
import { projectFile } from './project.js';

/** What tests of the browser page share: opening it, waiting for what it says, what must never happen on it. */

/** Milliseconds that anything on the page may take: SwiftShader on a busy machine is slow. */
export const PATIENCE = 180_000;

/** Pictures of the main states, for a person to look at. */
const screenshots = fileURLToPath(projectFile('dist/screenshots/'));
mkdirSync(screenshots, { recursive: true });

/** A page that is watched: complaints of the console, errors, and requests to anywhere else. */
export interface WatchedPage {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly complaints: string[];
}

/**
 * A fresh profile with nothing kept. In its session worker `testDevice` is the open GPU device, so that tests can lose it.
 * `prepare` runs in the page before its scripts, `inWorker` is script that runs first in its session worker.
 */
export async function openPage(
  browser: Browser,
  address: string,
  options: {
    readonly dark?: boolean;
    readonly phone?: boolean;
    readonly prepare?: () => void;
    readonly inWorker?: string;
  } = {},
): Promise<WatchedPage> {
  const context = await browser.newContext({
    locale: 'en-US',
    viewport: options.phone ? { width: 390, height: 844 } : { width: 1280, height: 900 },
    colorScheme: options.dark ? 'dark' : 'light',
    reducedMotion: 'reduce',
    acceptDownloads: true,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints: string[] = [];
  page.on('console', (message) => {
    // Chromium says this of WebGPU on Linux, whatever the page does.
    if (/warning|error/.test(message.type()) && !/WebGPU is experimental/.test(message.text()))
      complaints.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith('blob:'))
      complaints.push(`asked ${request.url()}`);
  });
  await page.route('**/session.worker.js', async (route) => {
    const response = await route.fetch();
    const hook = `const request = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (descriptor) { return (globalThis.testDevice = await request.call(this, descriptor)); };
`;
    await route.fulfill({ response, body: `${hook}${options.inWorker ?? ''}\n${await response.text()}` });
  });
  if (options.prepare) await page.addInitScript(options.prepare);
  await page.goto(address);
  return { page, context, complaints };
}

/** Waits until the form offers its presets: the device is open and measured. */
export async function ready({ page }: WatchedPage): Promise<void> {
  await page.waitForSelector('input[name=preset]:checked');
  await page.waitForFunction(() => !(document.getElementById('start') as HTMLButtonElement).disabled);
}

/** The step that the page shows. */
export async function shownStep({ page }: WatchedPage): Promise<number> {
  return Number.parseInt((await page.textContent('#number-step')) ?? '', 10);
}

/** Waits until the page shows this step or a later one. */
export async function reaches({ page }: WatchedPage, step: number): Promise<void> {
  await page.waitForFunction(
    (wanted) => Number.parseInt(document.getElementById('number-step')?.textContent ?? '', 10) >= wanted,
    step,
  );
}

/** Waits until the phase line says this. */
export async function says({ page }: WatchedPage, phase: string): Promise<void> {
  await page.waitForFunction((wanted) => document.getElementById('phase')?.textContent === wanted, phase);
}

/** Drops files and folders in the middle of the page, as a person does. */
export async function drop({ page }: WatchedPage, paths: readonly string[]): Promise<void> {
  const devtools = await page.context().newCDPSession(page);
  const data = { items: [], files: [...paths], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const)
    await devtools.send('Input.dispatchDragEvent', { type, x: 400, y: 300, data });
  await devtools.detach();
}

/** Presses a button that downloads, and returns where the file lies. */
export async function downloads({ page }: WatchedPage, button: string, folder: string): Promise<string> {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
  const path = `${folder}/${download.suggestedFilename()}`;
  await download.saveAs(path);
  return path;
}

type MetricsLine = Readonly<Record<string, unknown>>;

/** Lines of a metrics file that was downloaded. */
export function metricsLines(path: string): MetricsLine[] {
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as MetricsLine);
}

/** Those of training steps. */
export function stepLines(lines: readonly MetricsLine[]): MetricsLine[] {
  return lines.filter((line) => 'loss' in line);
}

export async function screenshot({ page }: WatchedPage, name: string, fullPage = true): Promise<void> {
  if (fullPage) await page.evaluate(() => scrollTo(0, 0)); // what sticks to the window is then at its place
  await page.screenshot({ path: `${screenshots}${name}.png`, fullPage });
}

/** Nothing that a person would find in the console, and no request that leaves the origin. */
export function quiet({ complaints }: WatchedPage): void {
  assert.equal(complaints, []);
}

/** Elements without a name for screen readers, and texts whose contrast is below 4.5 (WCAG 2 AA). */
export function accessibilityProblems({ page }: WatchedPage): Promise<string[]> {
  return page.evaluate(() => {
    const problems: string[] = [];
    const visible = (element: Element): boolean => (element as HTMLElement).offsetParent !== null;
    for (const element of document.querySelectorAll('button, input, canvas[tabindex], progress, video, [role=img]')) {
      if (!visible(element)) continue;
      const labels = (element as HTMLInputElement).labels;
      const name =
        element.getAttribute('aria-label') ??
        (labels && labels.length > 0 ? labels[0]?.textContent : null) ??
        element.textContent;
      if (!name?.trim()) problems.push(`no name: ${element.outerHTML.slice(0, 80)}`);
    }
    type Rgb = readonly [number, number, number, number];
    const parse = (text: string): Rgb => {
      const [r = 0, g = 0, b = 0, a = 1] = (text.match(/[\d.]+/g) ?? []).map(Number);
      return [r, g, b, a];
    };
    const luminance = ([r, g, b]: Rgb): number => {
      const [x = 0, y = 0, z = 0] = [r, g, b].map((v) =>
        v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4,
      );
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const background = (element: Element | null): Rgb => {
      for (let at = element; at; at = at.parentElement) {
        const colour = parse(getComputedStyle(at).backgroundColor);
        if (colour[3] > 0) return colour;
      }
      return [255, 255, 255, 1];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const element = node.parentElement;
      if (!element || !node.textContent?.trim() || !visible(element) || element.closest(':disabled, noscript, .skip'))
        continue;
      if (element.closest('label')?.querySelector(':disabled')) continue;
      const [light, dark] = [luminance(parse(getComputedStyle(element).color)), luminance(background(element))].sort(
        (a, b) => b - a,
      );
      const contrast = ((light ?? 0) + 0.05) / ((dark ?? 0) + 0.05);
      if (contrast < 4.5) problems.push(`contrast ${contrast.toFixed(2)}: ${node.textContent.trim().slice(0, 40)}`);
    }
    return problems;
  });
}

interface TraceEvent {
  readonly name: string;
  readonly ph: string;
  readonly dur?: number;
  readonly tdur?: number;
  readonly args?: { readonly data?: { readonly url?: string } };
}

/**
 * Milliseconds of each task of the page's own script in a trace (`devtools.timeline`), in processor time: what other programs
 * of the machine take in between is not the page's doing.
 */
export function scriptTimes(trace: Buffer): number[] {
  const { traceEvents } = JSON.parse(trace.toString('utf8')) as { readonly traceEvents: readonly TraceEvent[] };
  return traceEvents
    .filter(({ name, ph, args }) => name === 'FunctionCall' && ph === 'X' && args?.data?.url?.endsWith('/page.js'))
    .map(({ dur = Number.NaN, tdur }) => (tdur ?? dur) / 1000);
}
