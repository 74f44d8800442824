import type { Member, ViewPicture } from '../../src/index.js';
import { bitmapCanvas, byId, canvasOf, make, themeColour } from './dom.js';
import type { Look, Selection } from './protocol.js';
import type { Thumbs } from './thumbs.js';

/** The panels below the map: pictures made of what the worker sends. */

/** Sides in CSS pixels: five tiles in a row fit a phone. */
const THUMB = 52;
const LARGE = 92;
const GLOBAL = 76;
const SMALL = 42;

/** Attention of [CLS] by head, and the nearest neighbours. */
export function showSelection(selection: Selection, thumbs: Thumbs, choose: (image: number) => void): void {
  byId('closer').hidden = false;
  byId('closer-title').textContent = `A closer look: ${thumbs.name(selection.image)}`;
  const picture = bitmapCanvas(selection.pixels, selection.size);
  const [plain, context] = canvasOf(LARGE);
  context.drawImage(picture, 0, 0, LARGE, LARGE);
  const heads = Array.from({ length: selection.heads }, (_, head) =>
    make('span', { className: 'tile' }, attentionOf(selection, picture, head), `head ${head + 1}`),
  );
  byId('attention').replaceChildren(make('span', { className: 'tile' }, plain, 'picture'), ...heads);
  byId('neighbours').replaceChildren(
    ...selection.neighbours.map(({ image, score }) => thumbs.button(image, THUMB, score.toFixed(2), choose)),
  );
}

/** The picture, lit where the head looks. */
function attentionOf({ attention, grid }: Selection, picture: HTMLCanvasElement, head: number): HTMLCanvasElement {
  const [canvas, context] = canvasOf(LARGE);
  const shares = attention.subarray(head * grid * grid, (head + 1) * grid * grid);
  const most = shares.reduce((a, b) => Math.max(a, b), 1e-9);
  context.drawImage(picture, 0, 0, LARGE, LARGE);
  // One pixel a patch, enlarged smoothly: an even veil that is thin where the share is large.
  const veil = new Uint8ClampedArray(4 * grid * grid);
  shares.forEach((share, i) => {
    veil.set([12, 12, 14, 235 * (1 - share / most)], 4 * i);
  });
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmapCanvas(veil, grid), 0, 0, LARGE, LARGE);
  return canvas;
}

/** Views of the current batch, hidden patches covered. */
export function showViews({ views }: Look, thumbs: Thumbs): void {
  byId('batch').hidden = views.images.length === 0;
  const lines = views.images.map(({ index, views: all }) => {
    const original = make('span', { className: 'tile' }, thumbs.canvas(index, SMALL), 'picture');
    const line = make('div', { className: 'line' }, original);
    line.append(...all.map((view) => make('span', { className: 'tile' }, viewOf(view, views.grid), viewName(view))));
    return line;
  });
  byId('views').replaceChildren(...lines);
}

function viewName({ kind, mask }: ViewPicture): string {
  if (kind === 'local' || !mask) return 'crop';
  const hidden = mask.reduce((sum, patch) => sum + patch, 0);
  return hidden > 0 ? `${hidden} hidden` : 'none hidden';
}

function viewOf({ kind, size, pixels, mask }: ViewPicture, grid: number): HTMLCanvasElement {
  const side = kind === 'global' ? GLOBAL : SMALL;
  const [canvas, context] = canvasOf(side);
  context.drawImage(bitmapCanvas(pixels, size), 0, 0, side, side);
  if (!mask) return canvas;
  const patch = side / grid;
  mask.forEach((hidden, i) => {
    if (!hidden) return;
    const [x, y] = [(i % grid) * patch, Math.floor(i / grid) * patch];
    context.fillStyle = themeColour('card');
    context.fillRect(x, y, patch, patch);
    context.strokeStyle = themeColour('accent');
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, patch - 1, patch - 1);
    context.beginPath();
    context.moveTo(x, y + patch);
    context.lineTo(x + patch, y);
    context.stroke();
  });
  return canvas;
}

/** Anchors and their support embeddings with contributions. */
export function showPrototypes({ prototypes }: Look, thumbs: Thumbs, choose: (image: number) => void): void {
  byId('organized').hidden = prototypes.length === 0;
  const lines = prototypes.map(({ anchor, support }) => {
    const line = make('div', { className: 'line' }, member(anchor, 'anchor', thumbs, choose));
    line.append(...support.map((one) => member(one, '', thumbs, choose)));
    return line;
  });
  byId('prototypes').replaceChildren(...lines);
}

function member(one: Member, name: string, thumbs: Thumbs, choose: (image: number) => void): HTMLElement {
  const share = one.contribution.toFixed(2);
  const bar = make('progress', { max: 1, value: one.contribution });
  bar.setAttribute('aria-label', `contribution ${share}`);
  if (one.image === null) return make('span', { className: 'tile' }, 'random start', bar);
  const tile = make('div', { className: 'tile' }, thumbs.button(one.image, THUMB, name || share, choose));
  tile.append(make('div', { className: 'bar' }, bar));
  return tile;
}

/** What the spread of features means, in a sentence. */
export function verdict({ collapsed, effectiveRank, width }: Look): string {
  if (collapsed) return `Collapsed: ${collapsed}. Start again, with more pictures or another size.`;
  const directions = `${Math.round(effectiveRank)} of ${width} directions`;
  if (effectiveRank < width / 10)
    return `Narrow: pictures differ in about ${directions} only. If it shrinks on, training collapses.`;
  return `Healthy: pictures differ in about ${directions}.`;
}
