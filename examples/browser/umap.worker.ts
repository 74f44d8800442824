import { UMAP } from 'umap-js';
import { intoUnitSquare } from './pca.js';

/** A request: unit rows [rows, width]. The answer: positions in [0, 1], [rows, 2]. */
export interface UmapRequest {
  readonly features: Float32Array;
  readonly width: number;
}

globalThis.addEventListener('message', ({ data }: MessageEvent<UmapRequest>) => {
  const { features, width } = data;
  const rows = Array.from({ length: features.length / width }, (_, i) => [
    ...features.subarray(i * width, (i + 1) * width),
  ]);
  // A generator of its own: the same features give the same map.
  let state = 1;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const umap = new UMAP({ nComponents: 2, nNeighbors: Math.min(15, rows.length - 1), random });
  const positions = Float32Array.from(umap.fit(rows).flat());
  globalThis.postMessage(intoUnitSquare(positions));
});
