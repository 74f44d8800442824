import { Camera } from './camera.js';
import { Charts } from './charts.js';
import { byId, make } from './dom.js';
import { fromDrop, fromInput, type GivenFile, picturesOf } from './given.js';
import { PictureMap } from './map.js';
import { clearNotice, notify } from './notices.js';
import { showPrototypes, showSelection, showViews, verdict } from './panels.js';
import type { FromWorker, Kept, Look, LookPoint, Phase, ToWorker, Trouble } from './protocol.js';
import { SetupForm } from './setup-form.js';
import { Thumbs } from './thumbs.js';
import type { UmapRequest } from './umap.worker.js';

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
let rate = 0;
let selected = -1;
let look: Look | null = null;
/** k-NN of the first look: what the untrained model reaches. */
let before: number | null = null;

function receive(message: FromWorker): void {
  switch (message.type) {
    case 'opened':
      byId('adapter').textContent = message.software
        ? `Computing on the processor (${message.adapter}): there is no graphics card that this browser can use, so it is slow.`
        : `Computing on ${message.adapter}.`;
      if (message.kept) offerKept(message.kept);
      send({ type: 'use-shapes' });
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
      showStep();
      return;
    case 'progress':
      form.busy(message.what, message.done, message.total);
      return;
    case 'steps':
      charts.steps(message.points);
      for (const point of message.points) {
        step = point.step;
        rate = rate > 0 ? 0.8 * rate + 0.2 * point.imagesPerSecond : point.imagesPerSecond;
      }
      form.progress(step, steps);
      showStep();
      return;
    case 'history':
      charts.history(message.points, message.looks);
      before = message.looks[0]?.knn ?? null;
      rate = message.points.at(-1)?.imagesPerSecond ?? 0;
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
  else if (kind === 'no-adapter') noDevice(text);
  else if (kind === 'storage') notify('storage', text, { trouble: true, actions: [save] });
  else notify(kind, text, { trouble: true });
}

/** Nothing can be computed here: said once, and nothing is offered that would not work. */
function noDevice(text: string): void {
  notify('device', text, { trouble: true });
  byId('adapter').textContent = 'This browser cannot compute here.';
  byId('presets').replaceChildren(make('legend', {}, 'Size'), make('p', { className: 'quiet' }, 'Needs WebGPU.'));
  for (const button of document.querySelectorAll<HTMLButtonElement>('#setup button')) button.disabled = true;
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
  byId('number-rate').textContent = rate > 0 ? (rate < 10 ? rate.toFixed(1) : String(Math.round(rate))) : '–';
  document.title =
    phase === 'training' ? `${step} / ${steps} · sop-gpu` : 'sop-gpu: learning without labels, in this page';
}

function showLook(next: Look): void {
  look = next;
  charts.look(next);
  showNumbers(next, next.width);
  if (!thumbs) return;
  showViews(next, thumbs);
  showPrototypes(next, thumbs, select);
  byId('map-note').textContent =
    'What the model finds alike lies close together. Choose a picture to look closer; on the keyboard with the arrow keys and Enter.';
  if (layout === 'pca') map.place(next.images, next.positions);
  else requestUmap();
  if (selected >= 0) send({ type: 'select', image: selected });
}

function showNumbers(point: LookPoint, width: number): void {
  byId('number-knn').textContent = point.knn === null ? 'no classes' : `${point.knn.toFixed(1)} %`;
  before ??= point.knn;
  const untrained = point.knn !== null && before !== null && point.step > 0;
  byId('number-knn-before').textContent = untrained ? `${before?.toFixed(1)} % before training` : '';
  byId('verdict').textContent = verdict(point, width);
}

function select(image: number): void {
  selected = image;
  if (look) send({ type: 'select', image });
}

/** Nothing is known of a new set. */
function forget(): void {
  [look, selected, before, rate] = [null, -1, null, 0];
  charts.history([], []);
  for (const id of ['closer', 'batch', 'organized']) byId(id).hidden = true;
  for (const id of ['number-knn', 'number-rate', 'verdict']) byId(id).textContent = '–';
  byId('number-knn-before').textContent = '';
}

// The map by UMAP, in a worker of its own, only when asked for.
let layout: 'pca' | 'umap' = 'pca';
let umap: { readonly worker: Worker; busy: boolean } | null = null;

function requestUmap(): void {
  if (!look) return;
  umap ??= { worker: new Worker('umap.worker.js', { type: 'module' }), busy: false };
  if (umap.busy) return;
  umap.busy = true;
  const { images, features, width } = look;
  byId('map-position').textContent = 'UMAP is computed …';
  umap.worker.onmessage = ({ data }: MessageEvent<Float32Array>) => {
    if (umap) umap.busy = false;
    byId('map-position').textContent = '';
    if (layout === 'umap') map.place(images, data);
  };
  umap.worker.postMessage({ features, width } satisfies UmapRequest);
}

function setLayout(next: typeof layout): void {
  layout = next;
  byId('map-pca').setAttribute('aria-pressed', String(next === 'pca'));
  byId('map-umap').setAttribute('aria-pressed', String(next === 'umap'));
  if (next === 'umap') requestUmap();
  else if (look) map.place(look.images, look.positions);
}
byId('map-pca').addEventListener('click', () => setLayout('pca'));
byId('map-umap').addEventListener('click', () => setLayout('umap'));

// Pictures and files.
const opens = (button: string, input: string): void => {
  byId(button).addEventListener('click', () => byId(input).click());
  byId(input).addEventListener('change', ({ target }) => {
    const element = target as HTMLInputElement;
    void take(fromInput(element.files));
    element.value = '';
  });
};
opens('use-folder', 'folder');
opens('use-files', 'files');
opens('open-file', 'opened');
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

document.addEventListener('dragover', (event) => {
  event.preventDefault();
  byId('drop').hidden = false;
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) byId('drop').hidden = true;
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  byId('drop').hidden = true;
  if (event.dataTransfer) void fromDrop(event.dataTransfer.items).then(take);
});

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
      'This browser offers no WebGPU. Use a current Chrome, Edge, Safari or Firefox; on Linux, Chrome may need “Unsafe WebGPU Support” switched on in chrome://flags.',
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
