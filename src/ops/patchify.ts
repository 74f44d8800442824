import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { patchifyForwardKernel } from '../../shaders/patchify.wgsl.js';
import { defineOp, GraphError, input, type Launch, misfit, output } from '../graph/op.js';
import { elements, type RealType, realType, type Spec } from '../graph/tensor.js';

/** Patches of all images of one tensor. */
function patches({ shape: [images = 0, , height = 0, width = 0] }: Spec, patch: number): number {
  return (images * height * width) / patch ** 2;
}

/**
 * Cuts images into non-overlapping patches. Inputs: one or more images [n, C, H, W], of the same C. Output: rows
 * [sum of n (H / patch) (W / patch), C patch patch], image after image, patches in row-major order, columns in the order of
 * a convolution's weights (channel, y, x), stored as `dtype`, f32 if not said. Images have no gradient.
 */
export const patchify = defineOp<{ readonly patch: number; readonly dtype?: RealType }>({
  name: 'patchify',
  infer(images, { patch, dtype = 'f32' }) {
    const channels = images[0]?.shape[1] ?? 0;
    for (const image of images) {
      const [, c, height = 0, width = 0] = image.shape;
      if (image.shape.length !== 4 || c !== channels || height % patch !== 0 || width % patch !== 0) {
        const sides = `sides that are multiples of ${patch}`;
        throw misfit('patchify', { images: image }, `[n, ${channels}, height, width], ${sides}`);
      }
    }
    if (images.length === 0) throw new GraphError('patchify', 'has no images');
    const rows = images.reduce((sum, spec) => sum + patches(spec, patch), 0);
    return [{ shape: [rows, channels * patch ** 2], dtype }];
  },
  launches({ inputs: images, outputs: [rows], attrs: { patch } }) {
    const { vec4, width: patch_x } = byFour(patch);
    let first = 0;
    return images.map((image, i): Launch => {
      const [, channels = 0, height = 0, width = 0] = image.shape;
      const count = (elements(image) / patch) * patch_x;
      const grid = { grid_y: height / patch, grid_x: width / patch };
      const params = { count, first, channels, patch_y: patch, patch_x, ...grid };
      first += count;
      return {
        kernel: patchifyForwardKernel({ vec4, type: realType(rows) }),
        bindings: { image: input(i), rows: output(0) },
        params,
        workgroups: eachGrid(count),
      };
    });
  },
});
