import { canvasOf, make } from './dom.js';
import type { SetInfo } from './protocol.js';

/** The thumbnails of the set, and what people call its pictures. */
export class Thumbs {
  constructor(readonly set: SetInfo) {}

  /** Draws a picture's thumbnail into a square. */
  draw(context: CanvasRenderingContext2D, image: number, x: number, y: number, side: number): void {
    const { atlas, columns, tile } = this.set;
    const [left, top] = [tile * (image % columns), tile * Math.floor(image / columns)];
    context.drawImage(atlas, left, top, tile, tile, x, y, side, side);
  }

  canvas(image: number, side: number): HTMLCanvasElement {
    const [canvas, context] = canvasOf(side);
    this.draw(context, image, 0, 0, side);
    return canvas;
  }

  /** `picture 12, striped disc` */
  name(image: number): string {
    const { labels, classes } = this.set;
    const label = labels?.[image];
    return label === undefined
      ? `picture ${image + 1}`
      : `picture ${image + 1}, ${classes?.[label] ?? `class ${label}`}`;
  }

  /** A thumbnail that can be chosen. */
  button(image: number, side: number, caption: string, choose: (image: number) => void): HTMLButtonElement {
    const button = make('button', { type: 'button', className: 'tile' }, this.canvas(image, side), caption);
    button.setAttribute('aria-label', `${this.name(image)}${caption && `, ${caption}`}`);
    button.addEventListener('click', () => choose(image));
    return button;
  }
}
