/** Small helpers around the page's elements. */

/** The element with this id. @throws Error for one that index.html lacks */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`index.html has no #${id}`);
  return element as T;
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A canvas of `width` x `height` CSS pixels, sharp on this screen, and its context in CSS pixels. */
export function canvasOf(width: number, height = width): [HTMLCanvasElement, CanvasRenderingContext2D] {
  const scale = Math.min(2, window.devicePixelRatio || 1);
  const canvas = make('canvas', { width: Math.round(width * scale), height: Math.round(height * scale) });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  if (!context) throw new Error('this browser gives no 2D canvas');
  context.scale(scale, scale);
  return [canvas, context];
}

/** The value of a colour of page.css under the present scheme. */
export function themeColour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Pixels as something that `drawImage` takes. */
export function bitmapCanvas(pixels: Uint8ClampedArray<ArrayBuffer>, size: number): HTMLCanvasElement {
  const canvas = make('canvas', { width: size, height: size });
  canvas.getContext('2d')?.putImageData(new ImageData(pixels, size, size), 0, 0);
  return canvas;
}

/** `draw` as something to call at every change: it runs once, in the next frame. */
export function oncePerFrame(draw: () => void): () => void {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      draw();
    });
  };
}
