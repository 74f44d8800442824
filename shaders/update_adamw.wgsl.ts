// update_adamw: clips each gradient tensor by its own norm, then one step of AdamW (decoupled weight decay, as PyTorch's).
//
//   g  = gradient min(1, clip / (sqrt(squares[t]) + 1e-6))        clip = 0: g = gradient
//   m  = beta1 m + (1 - beta1) g
//   v  = beta2 v + (1 - beta2) g^2
//   u  = lr (decay p + (m / c1) / (sqrt(v / c2) + eps))           c = 1 - beta^step; decay where the table says so
//   p  = p - u
//
//   flag         [1]        u32; not 0: nothing is written. Where steps are skipped a gate, [3]: the flag and the bits of both c
//   parameters   [n]        p, changed
//   gradients    [n]
//   moment1      [n]        m, changed
//   moment2      [n]        v, changed
//   squares      [T]        sum of squares of each gradient tensor
//   table        [n / 64]   u32: tensor that owns 64 elements, bit 31 where it decays
//   counts       [2]        u32; the second: steps that were skipped (update_loss_scale), which do not count in c
//   sums         [groups]   sums of p^2 and u^2 over ADAMW_SPAN elements each
//   norms        [2]        sums of p^2 and u^2
//
// stage `correct`, where steps are skipped: one invocation; with flag and c in one binding `step` has no more than WebGPU allows.
// stage `step`: a workgroup a span, up to 16 invocations a table entry, four elements at a time; stage `total`: one workgroup adds the spans.

import { PACK_ALIGNMENT } from '../src/graph/graph.js';
import type { Kernel } from '../src/graph/kernel.js';
import { GRID } from './lib/grid.js';
import { kernel, read, wgsl, write } from './lib/kernel.js';
import { treeSum } from './lib/reduce.js';

/** Elements of one workgroup. */
export const ADAMW_SPAN = 1024;
/** Set in an entry of the table whose tensor is decayed. */
export const DECAYS = 0x80000000;
/** Fours of elements that share an entry of the table. */
const VECTORS = PACK_ALIGNMENT / 4;

/** 1 - e^x, which is 1 - b^t for x = t log b: near 0 by Taylor's series, as the difference would have few digits left. */
const ONE_LESS = `
fn one_less_exp(x: f32) -> f32 {
  if (x < -0.5) { return 1.0 - exp(x); }
  var sum = 1.0;
  for (var n = 11.0; n > 1.0; n -= 1.0) { sum = 1.0 + x / n * sum; }
  return -x * sum;
}`;

export function updateAdamwCorrectKernel(): Kernel {
  return kernel({
    label: 'update_adamw.correct',
    bindings: { flag: read('u32'), counts: read('u32'), gate: write('u32') },
    params: { log_beta1: 'f32', log_beta2: 'f32', step_slot: 'u32' },
    scalars: true,
    code: wgsl`${ONE_LESS}
@compute @workgroup_size(1)
fn correct() {
  let t = f32(max(scalar_u32(params.step_slot), counts[1] + 1u) - counts[1]);
  gate[0] = flag[0];
  gate[1] = bitcast<u32>(one_less_exp(t * params.log_beta1));
  gate[2] = bitcast<u32>(one_less_exp(t * params.log_beta2));
}
`,
  });
}

/** `skips`: flag and c come from the gate. */
export function updateAdamwStepKernel({ lanes, skips }: { lanes: number; skips: boolean }): Kernel {
  const team = Math.min(lanes, VECTORS);
  return kernel({
    label: 'update_adamw.step',
    bindings: {
      flag: read('u32'),
      parameters: write('vec4<f32>'),
      gradients: read('vec4<f32>'),
      moment1: write('vec4<f32>'),
      moment2: write('vec4<f32>'),
      squares: read('f32'),
      table: read('u32'),
      sums: write('vec2<f32>'),
    },
    params: {
      blocks: 'u32',
      spans: 'u32',
      beta1: 'f32',
      beta2: 'f32',
      rest1: 'f32',
      rest2: 'f32',
      eps: 'f32',
      clip: 'f32',
      lr_slot: 'u32',
      decay_slot: 'u32',
      correction1_slot: 'u32',
      correction2_slot: 'u32',
    },
    scalars: true,
    code: wgsl`${GRID}${treeSum(lanes)}
const DECAYS = ${DECAYS}u;

@compute @workgroup_size(${lanes})
fn step(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, groups);
  let end = min(params.blocks, (group + 1u) * ${ADAMW_SPAN / PACK_ALIGNMENT}u);
  // Loads of uniforms in the loop would cost as much as loads of numbers.
  let lr = scalar_f32(params.lr_slot);
  let weight_decay = scalar_f32(params.decay_slot);
  let inverse1 = 1.0 / ${skips ? 'bitcast<f32>(flag[1])' : 'scalar_f32(params.correction1_slot)'};
  let inverse2 = 1.0 / ${skips ? 'bitcast<f32>(flag[2])' : 'scalar_f32(params.correction2_slot)'};
  let beta = vec2<f32>(params.beta1, params.beta2);
  let rest = vec2<f32>(params.rest1, params.rest2);
  let eps = params.eps;
  let clip = params.clip;
  let refused = flag[0] != 0u;
  var of_parameters = vec4<f32>(0.0);
  var of_update = vec4<f32>(0.0);
  for (var block = group * ${ADAMW_SPAN / PACK_ALIGNMENT}u + local / ${team}u; block < end; block += ${lanes / team}u) {
    let entry = table[block];
    let norm = sqrt(squares[entry & ~DECAYS]);
    let factor = select(1.0, min(1.0, clip / (norm + 1e-6)), clip > 0.0);
    let decay = select(0.0, weight_decay, (entry & DECAYS) != 0u);
    for (var i = block * ${VECTORS}u + local % ${team}u; i < (block + 1u) * ${VECTORS}u; i += ${team}u) {
      let g = factor * gradients[i];
      let m = beta.x * moment1[i] + rest.x * g;
      let v = beta.y * moment2[i] + rest.y * g * g;
      let p = parameters[i];
      let u = lr * (decay * p + (m * inverse1) / (sqrt(v * inverse2) + eps));
      let update = select(u, vec4<f32>(0.0), refused);
      let next = p - update;
      if (!refused) {
        parameters[i] = next;
        moment1[i] = m;
        moment2[i] = v;
      }
      of_parameters += next * next;
      of_update += update * update;
    }
  }
  let p_sum = tree_sum(local, (of_parameters.x + of_parameters.y) + (of_parameters.z + of_parameters.w));
  let u_sum = tree_sum(local, (of_update.x + of_update.y) + (of_update.z + of_update.w));
  if (local == 0u && group < params.spans) { sums[group] = vec2<f32>(p_sum, u_sum); }
}
`,
  });
}

export function updateAdamwTotalKernel({ lanes }: { lanes: number }): Kernel {
  return kernel({
    label: 'update_adamw.total',
    bindings: { sums: read('vec2<f32>'), norms: write('f32') },
    params: { count: 'u32' },
    code: wgsl`${treeSum(lanes)}
@compute @workgroup_size(${lanes})
fn total(@builtin(local_invocation_index) local: u32) {
  var sum = vec2<f32>(0.0);
  for (var i = local; i < params.count; i += ${lanes}u) { sum += sums[i]; }
  let p_sum = tree_sum(local, sum.x);
  let u_sum = tree_sum(local, sum.y);
  if (local == 0u) { norms[0] = p_sum; norms[1] = u_sum; }
}
`,
  });
}
