import { AT_ONCE, forEachParallel } from '../data/prefetch.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { Target } from '../gpu/target.js';
import { Graph } from '../graph/graph.js';
import { elements, type Tensor } from '../graph/tensor.js';
import { declare } from '../nn/parameters.js';
import { encode, vitSpecs } from '../nn/vit.js';
import { compile } from '../plan/compile.js';
import { plan } from '../plan/plan.js';
import { type Elements, Replay } from '../plan/replay.js';
import { globalFeature, type NetworkShape } from '../sop/networks.js';
import { Turns } from '../turns.js';

/** Weights by timm's name. */
export type Weights = ReadonlyMap<string, Float32Array>;

/** Traces and plans the forward pass of `shape` for batches of `batch` images. Needs no device. */
export function traceEncoder(shape: Pick<NetworkShape, 'vit' | 'globalFeature'>, batch: number, target: Target) {
  const { vit } = shape;
  const graph = new Graph();
  const images = graph.input('images', [batch, vit.channels, vit.imageSize, vit.imageSize]);
  const parameters = declare(graph, 'encoder', vitSpecs(vit), 'state');
  const features = globalFeature(graph, shape, encode(graph, vit, parameters, { images: [images] }));
  return { images, parameters, features, plan: plan(graph, target, [features]) };
}

/** A frozen backbone: images in, features after the final norm out. Browser-safe. */
export class Encoder {
  private constructor(
    private readonly replay: Replay,
    private readonly images: Tensor,
    /** Numbers in a feature. */
    readonly width: number,
    private readonly parameters: ReadonlyMap<string, Tensor>,
    /** Passes of two calls would take each other's place on the device. */
    private readonly turns = new Turns(),
  ) {}

  /**
   * Compiles the forward pass of `shape` for batches of `batch` images.
   * @throws SopError 69 for a limit or memory that does not suffice, 70 for a shader that does not compile, 75 for a lost device
   */
  static async create(gpu: Gpu, shape: Pick<NetworkShape, 'vit' | 'globalFeature'>, batch: number): Promise<Encoder> {
    const traced = traceEncoder(shape, batch, gpu.target);
    const replay = new Replay(await compile(gpu, traced.plan), [traced.features]);
    return new Encoder(replay, traced.images, shape.vit.width, traced.parameters);
  }

  /** Sets the weights. @throws SopError 65 naming a tensor that is missing or of another size */
  load(weights: Weights): void {
    for (const [name, tensor] of this.parameters) {
      const values = weights.get(name);
      if (values?.length !== elements(tensor)) {
        throw new SopError(ExitCode.data, {
          what: 'weights do not fit the encoder',
          where: name,
          why: values ? `${values.length} numbers, expected ${elements(tensor)}` : 'the tensor is missing',
          fix: 'check model.* against the file',
        });
      }
      this.replay.write(tensor, values as Float32Array<ArrayBuffer>);
    }
  }

  /**
   * Features [count, W] of `count` preprocessed images that `image(i)` returns, f32 [C, size, size] each. Batches overlap:
   * the next one is prepared while the device works. Calls wait for each other.
   */
  features(
    count: number,
    image: (index: number) => Promise<Float32Array> | Float32Array,
    progress?: (done: number) => void,
  ): Promise<Float32Array<ArrayBuffer>> {
    return this.turns.take(() => this.pass(count, image, progress));
  }

  /** Frees everything on the device. */
  destroy(): void {
    this.replay.destroy();
  }

  private async pass(
    count: number,
    image: (index: number) => Promise<Float32Array> | Float32Array,
    progress?: (done: number) => void,
  ): Promise<Float32Array<ArrayBuffer>> {
    const [batch = 1] = this.images.shape;
    const size = elements(this.images) / batch;
    const result = new Float32Array(count * this.width);
    let running: Promise<unknown> = Promise.resolve();
    for (let start = 0; start < count; start += batch) {
      const used = Math.min(batch, count - start);
      const pixels = new Float32Array(batch * size);
      // A few at a time: the photographs of a whole batch, decoded, are gigabytes.
      await forEachParallel(used, AT_ONCE, async (i) => pixels.set(await image(start + i), i * size));
      await running;
      await this.replay.ready();
      this.replay.write(this.images, pixels);
      running = this.replay.run().then(([features]: Elements[]) => {
        if (features) result.set(features.subarray(0, used * this.width), start * this.width);
        progress?.(start + used);
      });
      // A failure is met at the next await; until then it must not count as unhandled.
      running.catch(() => undefined);
    }
    await running;
    return result;
  }
}
