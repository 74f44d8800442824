import { type Engine, type ImageEncoder, type ImageSet, loadWeights } from '../../src/index.js';
import { Looker } from './looker.js';
import type { Look } from './protocol.js';

/** The encoder of a file that somebody opened: it can be looked at and saved again. */
export class OpenedWeights {
  private constructor(
    private readonly loaded: ImageEncoder,
    readonly looker: Looker,
    private readonly file: { readonly name: string; readonly bytes: Uint8Array },
  ) {}

  /** @throws SopError 65 for a file that is damaged or no ViT */
  static async open(engine: Engine, set: ImageSet, name: string, bytes: Uint8Array): Promise<OpenedWeights> {
    const encoder = await engine.encoder(loadWeights(bytes, {}, name));
    return new OpenedWeights(encoder, new Looker(set), { name, bytes });
  }

  async look(engine: Engine): Promise<Look> {
    return (await this.looker.lookAt(this.loaded, engine)).look;
  }

  encoder(): Promise<ImageEncoder> {
    return Promise.resolve(this.loaded);
  }

  weights(): Promise<{ readonly name: string; readonly bytes: Uint8Array }> {
    return Promise.resolve(this.file);
  }

  destroy(): Promise<void> {
    this.loaded.destroy();
    return Promise.resolve();
  }
}
