import { byId, oncePerFrame, themeColour } from './dom.js';
import type { Thumbs } from './thumbs.js';

/** Side of a thumbnail on the map, CSS pixels. */
const SIDE = 24;
const MARGIN = 22;
/** Farthest that a click may miss a thumbnail. */
const REACH = 28;

/** The 2-D map of embeddings: thumbnails where their features lie. */
export class PictureMap {
  private readonly canvas = byId<HTMLCanvasElement>('map');
  private readonly note = byId('map-position');
  private thumbs: Thumbs | null = null;
  private images: ArrayLike<number> = [];
  private positions: ArrayLike<number> = [];
  private selected = -1;
  private neighbours: ReadonlySet<number> = new Set();
  /** The picture that the arrow keys have come to, by its place in `images`. */
  private cursor = 0;
  private readonly redraw = oncePerFrame(() => this.draw());
  /** Columns of the overview; 0 for a map. */
  private columns = 0;

  constructor(private readonly choose: (image: number) => void) {
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.redraw());
    this.canvas.addEventListener('click', ({ offsetX, offsetY }) => {
      const place = this.nearest(offsetX, offsetY);
      if (place < 0) return;
      this.cursor = place;
      this.choose(this.images[place] ?? 0);
    });
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    this.canvas.addEventListener('focus', () => this.redraw());
    this.canvas.addEventListener('blur', () => this.redraw());
  }

  /** All pictures side by side, before anything is known of them. */
  overview(thumbs: Thumbs): void {
    const count = Math.min(600, thumbs.set.count);
    const columns = Math.max(1, Math.ceil(Math.sqrt(count * 1.7)));
    const rows = Math.max(2, Math.ceil(count / columns));
    const positions = new Float32Array(2 * count);
    for (let i = 0; i < count; i++) {
      positions[2 * i] = (i % columns) / Math.max(1, columns - 1);
      positions[2 * i + 1] = 1 - Math.floor(i / columns) / (rows - 1);
    }
    this.thumbs = thumbs;
    this.selected = -1;
    this.neighbours = new Set();
    this.place(
      Array.from({ length: count }, (_, i) => i),
      positions,
      columns,
    );
  }

  /** @param positions in [0, 1], two for each image */
  place(images: ArrayLike<number>, positions: ArrayLike<number>, columns = 0): void {
    this.columns = columns;
    this.images = images;
    this.positions = positions;
    this.cursor = Math.min(this.cursor, images.length - 1);
    this.redraw();
  }

  select(image: number, neighbours: Iterable<number>): void {
    this.selected = image;
    this.neighbours = new Set(neighbours);
    this.redraw();
  }

  private at(place: number): [number, number] {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return [
      MARGIN + (this.positions[2 * place] ?? 0) * (width - 2 * MARGIN),
      height - MARGIN - (this.positions[2 * place + 1] ?? 0) * (height - 2 * MARGIN),
    ];
  }

  private nearest(x: number, y: number): number {
    let [best, least] = [-1, REACH];
    for (let place = 0; place < this.images.length; place++) {
      const [px, py] = this.at(place);
      const distance = Math.hypot(px - x, py - y);
      if (distance < least) [best, least] = [place, distance];
    }
    return best;
  }

  private key(event: KeyboardEvent): void {
    const directions: Readonly<Record<string, readonly [number, number]>> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const direction = directions[event.key];
    if (direction) {
      event.preventDefault();
      this.cursor = this.towards(direction);
      this.note.textContent = this.thumbs?.name(this.images[this.cursor] ?? 0) ?? '';
      this.redraw();
    } else if (event.key === 'Enter' || event.key === ' ') {
      event.preventDefault();
      this.choose(this.images[this.cursor] ?? 0);
    }
  }

  /** The nearest picture that lies more in this direction than aside. */
  private towards([dx, dy]: readonly [number, number]): number {
    const [x, y] = this.at(this.cursor);
    let [best, least] = [this.cursor, Number.POSITIVE_INFINITY];
    for (let place = 0; place < this.images.length; place++) {
      const [px, py] = this.at(place);
      const along = (px - x) * dx + (py - y) * dy;
      const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (place === this.cursor || along <= 0 || aside > along) continue;
      if (along + 2 * aside < least) [best, least] = [place, along + 2 * aside];
    }
    return best;
  }

  private draw(): void {
    const { canvas, thumbs } = this;
    const scale = Math.min(2, window.devicePixelRatio || 1);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext('2d');
    if (!context || !thumbs) return;
    context.scale(scale, scale);
    // Side by side they must not hide each other, on a narrow screen either.
    const room = this.columns > 1 ? (width - 2 * MARGIN) / (this.columns - 1) - 2 : SIDE;
    const side = Math.min(SIDE, room);
    const marked: number[] = [];
    for (let place = 0; place < this.images.length; place++) {
      const image = this.images[place] ?? 0;
      if (image === this.selected || this.neighbours.has(image)) marked.push(place);
      else this.picture(context, thumbs, place, side, null);
    }
    const accent = themeColour('accent');
    for (const place of marked) this.picture(context, thumbs, place, SIDE + 8, { colour: accent, line: 2 });
    const chosen = Array.prototype.indexOf.call(this.images, this.selected);
    if (chosen >= 0) this.picture(context, thumbs, chosen, SIDE + 20, { colour: accent, line: 3 });
    if (document.activeElement === canvas && this.images.length > 0)
      this.picture(context, thumbs, this.cursor, SIDE + 12, { colour: themeColour('text'), line: 3 });
  }

  private picture(
    context: CanvasRenderingContext2D,
    thumbs: Thumbs,
    place: number,
    side: number,
    frame: { readonly colour: string; readonly line: number } | null,
  ): void {
    const [x, y] = this.at(place);
    thumbs.draw(context, this.images[place] ?? 0, x - side / 2, y - side / 2, side);
    if (!frame) return;
    context.strokeStyle = frame.colour;
    context.lineWidth = frame.line;
    context.strokeRect(x - side / 2, y - side / 2, side, side);
  }
}
