import type { Look } from './protocol.js';
import type { UmapRequest } from './umap.worker.js';

/** Positions by UMAP, computed in a worker of its own that starts when it is first asked. */
export class Umap {
  private worker: Worker | null = null;
  private running: Look | null = null;
  private waiting: Look | null = null;

  /** @param done called with the positions of a look, in [0, 1], two for each image */
  constructor(private readonly done: (look: Look, positions: Float32Array) => void) {}

  get busy(): boolean {
    return this.running !== null;
  }

  /** Lays this look out; of those that come while another is computed only the last. */
  request(look: Look): void {
    if (this.running) this.waiting = look;
    else this.start(look);
  }

  private start(look: Look): void {
    if (!this.worker) {
      this.worker = new Worker('umap.worker.js', { type: 'module' });
      this.worker.addEventListener('message', ({ data }: MessageEvent<Float32Array>) => this.finish(data));
    }
    this.running = look;
    const { features, width } = look;
    this.worker.postMessage({ features, width } satisfies UmapRequest);
  }

  private finish(positions: Float32Array): void {
    const { running, waiting } = this;
    [this.running, this.waiting] = [null, null];
    if (running) this.done(running, positions);
    if (waiting) this.start(waiting);
  }
}
