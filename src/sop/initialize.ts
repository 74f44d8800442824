import { elements } from '../graph/tensor.js';
import type { ParameterSpec } from '../nn/parameters.js';
import { Draws } from '../rng.js';
import { type NetworkShape, studentSpecs } from './networks.js';

/** First weights by timm's name, a pure function of the seed and of each parameter's place in the list. */
export function initialWeights(shape: NetworkShape, seed: number): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    studentSpecs(shape).map((spec, item) => [
      spec.name,
      drawParameter(spec, new Draws({ seed, purpose: 'init', item })),
    ]),
  );
}

function drawParameter({ shape, initial }: ParameterSpec, draws: Draws): Float32Array<ArrayBuffer> {
  const values = new Float32Array(elements({ shape }));
  if (initial.kind === 'ones') return values.fill(1);
  if (initial.kind === 'zeros') return values;
  const bound = initial.kind === 'convolution' ? 1 / Math.sqrt(initial.inputs) : 0;
  for (let i = 0; i < values.length; i++) {
    values[i] = initial.kind === 'linear' ? draws.truncatedNormal(initial.std) : draws.uniform(-bound, bound);
  }
  return values;
}

/** First rows of memory number `item` [size, width]: uniform on the sphere, as the release starts it. */
export function initialMemory(size: number, width: number, seed: number, item: number): Float32Array<ArrayBuffer> {
  const draws = new Draws({ seed, purpose: 'memory', item });
  const rows = new Float32Array(size * width);
  for (let row = 0; row < size; row++) {
    const values = Array.from({ length: width }, () => draws.normal());
    const norm = Math.hypot(...values);
    values.forEach((value, i) => {
      rows[row * width + i] = value / norm;
    });
  }
  return rows;
}
