// update_loss_scale: the loss is multiplied by a number before it is differentiated, so that gradients do not vanish in f16,
// and all gradients are divided by it. It adapts itself (Micikevicius et al., 2018, as PyTorch's GradScaler).
//
//   flag        [1]   u32, changed: 0; 1 where the loss is not finite; more where a gradient is not
//   scale       [1]   changed; a power of two as long as it began as one
//   counts      [2]   u32, changed: steps since the scale last changed; steps that were skipped for it, in all
//   overflow    [1]   u32: the flag that was lowered, 0 where none was
//   gradients   [n]   changed
//
// unscale     gradients = gradients / scale; by 1 at least: before it is written the scale is 0, and 0 / 0 would stay in padding
// adapt       flag 0: after `interval` steps the scale doubles. A gradient that is not finite, at a scale above 1, is an
//             overflow: the scale halves and the flag is lowered, after everything that it gates, so that the step was skipped
//             and the next one counts. Any other flag is not the scale's doing and stays up.

import type { Kernel } from '../src/graph/kernel.js';
import { type EachLayout, each } from './lib/each.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';

/** The scale does not grow beyond this: it and what it multiplies shall stay within f32. */
const LARGEST = 2 ** 32;

export function updateLossScaleUnscaleKernel({ layout }: { layout: EachLayout }): Kernel {
  return kernel({
    label: 'update_loss_scale.unscale',
    bindings: { gradients: write('vec4<f32>'), scale: read('f32') },
    params: { count: 'u32' },
    code: each('unscale', 'gradients[i] = gradients[i] / max(scale[0], 1.0);', layout),
  });
}

export function updateLossScaleAdaptKernel(): Kernel {
  return kernel({
    label: 'update_loss_scale.adapt',
    bindings: { flag: write('u32'), scale: write('f32'), counts: write('u32'), overflow: write('u32') },
    params: { interval: 'u32' },
    code: wgsl`
@compute @workgroup_size(1)
fn adapt() {
  let raised = flag[0];
  let before = scale[0];
  overflow[0] = 0u;
  if (raised == 0u) {
    let steps = counts[0] + 1u;
    let grows = steps >= params.interval;
    counts[0] = select(steps, 0u, grows);
    if (grows) { scale[0] = min(2.0 * before, ${LARGEST}.0); }
  } else if (raised > 1u && before > 1.0) {
    scale[0] = max(1.0, 0.5 * before);
    counts[0] = 0u;
    counts[1] += 1u;
    overflow[0] = raised;
    flag[0] = 0u;
  }
}
`,
  });
}
