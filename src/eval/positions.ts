import { cubic } from './cubic.js';

/** Of the cubic kernel, as in PyTorch. */
const A = -0.75;

/** Taps of one axis: four clamped sources and their weights for each target. */
interface Taps {
  readonly sources: readonly number[];
  readonly weights: readonly number[];
}

/**
 * Position embeddings for another grid: bicubic (A = -0.75), no antialias, borders clamped, scale factor
 * (to + 0.1) / from as in DINO; the op `pos_resample` in float64. `pos` is [1 + from * from, width], row 0 for [CLS].
 *
 * @returns [1 + to * to, width]; a copy where both grids are the same
 */
export function resamplePositions(
  pos: Float32Array,
  width: number,
  from: number,
  to: number,
): Float32Array<ArrayBuffer> {
  if (from === to) return Float32Array.from(pos);
  const axis = Array.from({ length: to }, (_, target) => taps(target, from, (to + 0.1) / from));
  const result = new Float32Array((1 + to * to) * width);
  result.set(pos.subarray(0, width));
  axis.forEach((down, y) => {
    axis.forEach((across, x) => {
      const row = (1 + y * to + x) * width;
      for (let i = 0; i < width; i++) {
        let sum = 0;
        for (let j = 0; j < 4; j++) {
          for (let k = 0; k < 4; k++) {
            const source = 1 + down.sources[j]! * from + across.sources[k]!;
            sum += down.weights[j]! * across.weights[k]! * pos[source * width + i]!;
          }
        }
        result[row + i] = sum;
      }
    });
  });
  return result;
}

function taps(target: number, from: number, scale: number): Taps {
  const center = (target + 0.5) / scale - 0.5;
  const first = Math.floor(center) - 1;
  const places = [0, 1, 2, 3].map((i) => first + i);
  return {
    sources: places.map((place) => Math.min(from - 1, Math.max(0, place))),
    weights: places.map((place) => cubic(center - place, A)),
  };
}
