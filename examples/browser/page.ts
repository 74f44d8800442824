import { Camera } from './camera.js';
import { Charts } from './charts.js';
import { byId, make } from './dom.js';
import { type GivenFile, picturesOf } from './given.js';
import { takeFiles } from './intake.js';
import { PictureMap } from './map.js';
import { clearNotice, notify } from './notices.js';
import { showPrototypes, showSelection, showViews, verdict } from './panels.js';
import type { FromWorker, Kept, Look, Phase, ToWorker, Trouble } from './protocol.js';
import { SetupForm } from './setup-form.js';
import { Thumbs } from './thumbs.js';
import { Umap } from './umap.js';

/** The page: draws what the worker says, and tells it what people press. Nothing here computes for long. */

let worker: Worker | null = null;
const send = (message: ToWorker, transfer: Transferable[] = []): void => worker?.postMessage(message, transfer);

const charts = new Charts();
const map = new PictureMap((image) => select(image));
const form = new SetupForm({
  start(preset) {
    clearNotice('kept');
    void askToPersist();
    send({ type: 'start', preset });
  },
  restore: () => send({ type: 'restore' }),
  pause: () => send({ type: 'pause' }),
  goOn: () => send({ type: 'go-on' }),
  stop: () => send({ type: 'stop' }),
  save: (what) => send({ type: 'download', what }),
});
const camera = new Camera((images) => send({ type: 'use-images', images }, images.pictures as ImageBitmap[]));

let thumbs: Thumbs | null = null;
let phase: Phase = 'empty';
let steps = 0;
let step = 0;
let selected = -1;
let look: Look | null = null;

function receive(message: FromWorker): void {
  switch (message.type) {
    case 'opened':
      byId('adapter').textContent = message.software
        ? `Computing on the processor (${message.adapter}): there is no graphics card that this browser can use, so it is slow.`
        : `Computing on ${message.adapter.replace(/^unnamed/, 'an unnamed')}.`;
      send({ type: 'use-shapes' });
      return;
    case 'left':
      offerKept(message.run);
      return;
    case 'set': {
      thumbs = new Thumbs(message.set);
      const { name, count, classes } = message.set;
      byId('set').textContent =
        `${name}${classes ? `, ${classes.length} classes` : ', no classes'}. Drop others anywhere on this page.`;
      clearNotice('data');
      forget();
      map.overview(thumbs);
      byId('map-note').textContent =
        `${count} pictures; what the model makes of them appears here as soon as it starts.`;
      return;
    }
    case 'presets':
      form.showPresets(message.presets);
      return;
    case 'phase':
      ({ phase, step, steps } = message);
      form.show(phase, step, steps);
      if (phase === 'training') clearNotice('device');
      if (phase === 'training' || phase === 'paused') clearNotice('kept'); // another run is kept now
      showStep();
      return;
    case 'progress':
      form.busy(message.what, message.done, message.total);
      return;
    case 'steps':
      charts.steps(message.points);
      step = message.points.at(-1)?.step ?? step;
      form.progress(step, steps);
      showStep();
      return;
    case 'history':
      charts.history(message.points, message.looks);
      showStep();
      return;
    case 'look':
      showLook(message.look);
      return;
    case 'selection':
      selected = message.selection.image;
      if (thumbs) showSelection(message.selection, thumbs, select);
      map.select(
        selected,
        message.selection.neighbours.map(({ image }) => image),
      );
      return;
    case 'file':
      download(message.name, message.bytes);
      return;
    case 'kept':
      clearNotice('storage');
      byId('kept').textContent = `Step ${message.step} is kept in this browser: after a reload you can go on from it.`;
      return;
    case 'note':
      notify('note', message.text);
      return;
    case 'trouble':
      trouble(message.kind, message.text);
      return;
  }
}

function trouble(kind: Trouble, text: string): void {
  const restore = { name: 'Go on', run: () => send({ type: 'restore' }) };
  const save = { name: 'Save weights', run: () => send({ type: 'download', what: 'weights' }) };
  if (kind === 'lost') notify('device', text, { trouble: true, actions: [restore] });
  else if (kind === 'no-adapter') noDevice(withoutAdapter);
  else if (kind === 'storage') notify('storage', text, { trouble: true, actions: [save] });
  else notify(kind, text, { trouble: true });
}

const withoutAdapter =
  'This browser has WebGPU but finds no graphics device for it. Switch on graphics (hardware) acceleration in its settings, update it and the graphics driver, then reload. On Linux Chrome may need “Unsafe WebGPU Support” and “Vulkan” in chrome://flags (chrome://gpu says what is missing), Firefox “gfx.webgpu.ignore-blocklist” in about:config.';

/** Nothing can be computed here: said once, and nothing is offered that would not work. */
function noDevice(text: string): void {
  notify('device', text, { trouble: true, stays: true });
  byId('adapter').textContent = 'This browser cannot compute here.';
  byId('main').hidden = true;
}

function offerKept({ step: at, steps: all, preset, set }: Kept): void {
  if (at >= all) return;
  notify('kept', `This browser kept a run: ${preset} on ${set}, at step ${at} of ${all}.`, {
    actions: [
      { name: `Resume at step ${at}`, run: () => send({ type: 'restore' }) },
      { name: 'Discard', run: () => send({ type: 'discard' }) },
    ],
  });
}

function showStep(): void {
  byId('number-step').textContent = steps > 0 ? `${step} / ${steps}` : step > 0 ? String(step) : '–';
  const { rate } = charts;
  byId('number-rate').textContent = rate > 0 ? (rate < 10 ? rate.toFixed(1) : String(Math.round(rate))) : '–';
  document.title =
    phase === 'training' ? `${step} / ${steps} · sop-gpu` : 'sop-gpu: learning without labels, in this page';
}

function showLook(next: Look): void {
  look = next;
  charts.look(next);
  showNumbers(next);
  if (!thumbs) return;
  showViews(next, thumbs);
  showPrototypes(next, thumbs, select);
  byId('map-note').textContent =
    'What the model finds alike lies close together. Choose a picture to look closer; on the keyboard with the arrow keys and Enter.';
  layOut();
  if (selected >= 0) send({ type: 'select', image: selected });
}

const knnMeaning = 'how often neighbours vote for the right class';

function showNumbers(next: Look): void {
  const { untrained } = charts;
  const before = next.step > 0 && untrained !== null ? `${untrained.toFixed(1)} % untrained` : knnMeaning;
  byId('number-knn').textContent = next.knn === null ? 'no classes' : `${next.knn.toFixed(1)} %`;
  byId('number-knn-before').textContent = next.knn === null ? '' : before;
  byId('verdict').textContent = verdict(next);
}

function select(image: number): void {
  selected = image;
  if (look) send({ type: 'select', image });
}

/** Nothing is known of a new set. */
function forget(): void {
  [look, selected] = [null, -1];
  charts.history([], []);
  for (const id of ['closer', 'batch', 'organized']) byId(id).hidden = true;
  for (const id of ['number-knn', 'number-rate', 'verdict']) byId(id).textContent = '–';
  byId('number-knn-before').textContent = knnMeaning;
}

// The map: by principal components at once, by UMAP when it is computed.
let layout: 'pca' | 'umap' = 'pca';
const umap = new Umap(({ images }, positions) => {
  if (layout !== 'umap') return;
  map.place(images, positions);
  mapStatus();
});

function layOut(): void {
  if (layout === 'umap' && look) umap.request(look);
  else if (look) map.place(look.images, look.positions);
  mapStatus();
}

function mapStatus(): void {
  byId('map-position').textContent = layout === 'umap' && umap.busy ? 'UMAP is computed …' : '';
}

for (const name of ['pca', 'umap'] as const) {
  byId(`map-${name}`).addEventListener('click', () => {
    layout = name;
    for (const other of ['pca', 'umap']) byId(`map-${other}`).setAttribute('aria-pressed', String(other === name));
    layOut();
  });
}

// Pictures and files.
takeFiles((files) => void take(files));
byId('use-shapes').addEventListener('click', () => send({ type: 'use-shapes' }));
byId('use-camera').addEventListener('click', () => void camera.open());

/** Pictures become the set; anything of ours is opened. */
async function take(files: readonly GivenFile[]): Promise<void> {
  for (const { file, path } of files) {
    if (!/\.(safetensors|jsonl)$/i.test(path)) continue;
    const bytes = new Uint8Array(await file.arrayBuffer());
    send({ type: 'open-file', name: file.name, bytes }, [bytes.buffer]);
    return;
  }
  const images = picturesOf(files);
  if (images.pictures.length > 0) send({ type: 'use-images', images });
  else if (files.length > 0) {
    const text = 'There are no pictures among these files. Give JPEG, PNG, WebP or AVIF files, or a folder of them.';
    notify('data', text, { trouble: true });
  }
}

function download(name: string, bytes: Uint8Array<ArrayBuffer>): void {
  const url = URL.createObjectURL(new Blob([bytes]));
  make('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Browsers may evict what a page keeps when the disk runs full, unless they granted this. */
async function askToPersist(): Promise<void> {
  const granted = (await navigator.storage?.persist?.().catch(() => false)) ?? false;
  if (!granted)
    byId('kept').textContent =
      'This browser may delete what the page keeps when the disk runs full: save the weights of a long run as a file.';
}

// A hidden tab: what was learned is kept at once, and its return says what happened meanwhile.
let hiddenAt = 0;
document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    hiddenAt = step;
    send({ type: 'keep' });
  } else if (phase === 'training') {
    const text =
      step > hiddenAt
        ? `While this tab was hidden training went on, from step ${hiddenAt} to ${step}. Browsers may slow hidden tabs down: keep it visible for full speed.`
        : `The browser held training back while this tab was hidden, at step ${hiddenAt}. It goes on now; keep the tab visible for full speed.`;
    notify('hidden', text);
  }
});

function begin(): void {
  if (!window.isSecureContext) {
    noDevice(
      'This page was opened over an insecure connection, where browsers offer no WebGPU. Open it over https, or from localhost.',
    );
    return;
  }
  if (!('gpu' in navigator) || !navigator.gpu) {
    noDevice(
      'This browser offers no WebGPU. Use a current Chrome, Edge or Safari. On Linux switch it on: in Chrome “Unsafe WebGPU Support” in chrome://flags, in Firefox “dom.webgpu.enabled” in about:config.',
    );
    return;
  }
  worker = new Worker('session.worker.js', { type: 'module' });
  worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => receive(data));
  worker.addEventListener('error', ({ message }) =>
    trouble('training', `The worker stopped: ${message}. Reload the page.`),
  );
  send({ type: 'open' });
}

begin();
