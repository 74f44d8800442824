import { elements } from '../src/graph/tensor.js';
import { patchify } from '../src/ops/patchify.js';
import { opTest } from './declare.js';

export const patchifyTests = [
  opTest({
    op: patchify,
    reference({ inputs, specs, outputs: [rowsSpec], attrs: { patch } }) {
      const rows = new Float64Array(elements(rowsSpec));
      let at = 0;
      inputs.forEach((image, n) => {
        const [images = 0, channels = 0, height = 0, width = 0] = specs[n]!.shape;
        for (let b = 0; b < images; b++)
          for (let top = 0; top < height; top += patch)
            for (let left = 0; left < width; left += patch)
              for (let c = 0; c < channels; c++)
                for (let y = top; y < top + patch; y++)
                  for (let x = left; x < left + patch; x++)
                    rows[at++] = image[((b * channels + c) * height + y) * width + x]!;
      });
      return [rows];
    },
    cases: [
      { inputs: [{ shape: [1, 1, 1, 1] }], attrs: { patch: 1 } },
      { inputs: [{ shape: [3, 1, 28, 28] }, { shape: [5, 1, 14, 14] }], attrs: { patch: 7 } },
      { inputs: [{ shape: [2, 3, 16, 24] }, { shape: [3, 3, 8, 8] }], attrs: { patch: 4 } },
      { inputs: [{ shape: [1, 3, 32, 16] }], attrs: { patch: 16 } },
      { inputs: [{ shape: [1, 2, 6, 10] }], attrs: { patch: 2 } },
    ],
    halfCases: [
      { inputs: [{ shape: [3, 1, 28, 28] }, { shape: [5, 1, 14, 14] }], attrs: { patch: 7, dtype: 'f16' } },
      { inputs: [{ shape: [2, 3, 16, 24] }, { shape: [3, 3, 8, 8] }], attrs: { patch: 4, dtype: 'f16' } },
    ],
    // Numbers are only moved.
    tolerance: () => 0,
    bench: {
      dims: ['images', 'side', 'patch', 'channels?'],
      sized: (images, side, patch, channels = 3) => ({
        inputs: [{ shape: [images, channels, side, side] }],
        attrs: { patch },
      }),
      shapesOf: ({ inputs, attrs: { patch } }) =>
        inputs.map(({ shape: [images = 0, channels = 0, side = 0] }) => [images, side, patch, channels]),
    },
  }),
];
