// cross_entropy: loss = - sum_r w_r sum_b sum_i Pt[b, i] log max(Ps[r, i], TINY), b over the partners of row r.
// backward:      dPs[r, i] = - dloss w_r sum_b Pt[b, i] / Ps[r, i], 0 where Ps[r, i] < TINY.
//
//   student    [R, K]    Ps, each row a distribution
//   teacher    [Rt, K]   Pt
//   partners   [R, 2]    u32, rows of the teacher; NO_ROW where there is no (second) one
//   weights    [R]       0: the row contributes exactly 0, whatever it holds
//   sums       [R]       contribution of each row
//   loss       [1]
//   dloss      [1]
//   dstudent   [R, K]
//
// TINY is the smallest normal number: a probability that underflowed has a finite logarithm. Probabilities are read as bits:
// `log` and comparisons lose a NaN on some adapters, and one in a row that counts must reach the loss. Each logarithm is
// computed once: the partners' rows are added before.
//
// stage `terms`: a workgroup a row; stage `total`: one workgroup adds up what the rows contribute.

import type { Kernel } from '../src/graph/kernel.js';
import { elementType, real } from './lib/each.js';
import { FINITE } from './lib/finite.js';
import { GRID } from './lib/grid.js';
import { type KernelDeclaration, kernel, read, wgsl, write } from './lib/kernel.js';
import { NO_ROW } from './lib/no-row.js';
import { treeSum } from './lib/reduce.js';

/** A workgroup of `lanes` works on a row, by four elements where K divides by four. */
interface CrossEntropyVariant {
  readonly vec4: boolean;
  readonly lanes: number;
}

const params = { rows: 'u32', width: 'u32' } satisfies KernelDeclaration['params'];

/** Type of the bits of a `real`. */
const bitsType = (vec4: boolean): string => (vec4 ? 'vec4<u32>' : 'u32');

/** Width-dependent types, and the sum of the teacher's rows that a student's row is compared with. */
function pairs({ vec4 }: CrossEntropyVariant): string {
  return wgsl`${real(vec4)}
alias Bits = ${bitsType(vec4)};
const TINY_BITS = 0x00800000u;
const TINY = 1.17549435e-38;

/** How many partners a row has, and where their rows begin. */
struct Partners { count: u32, first: u32, second: u32 }
fn partners_of(row: u32, width: u32) -> Partners {
  let both = partners[row];
  let has = vec2<u32>(both != vec2<u32>(${NO_ROW}u));
  return Partners(has.x + has.y, width * select(both.y, both.x, has.x == 1u), width * both.y);
}

/** A loop, because an absent partner then costs nothing: software adapters execute both sides of an if. */
fn targets(of_row: Partners, i: u32) -> real {
  var sum = real(0.0);
  for (var p = 0u; p < of_row.count; p++) { sum += teacher[select(of_row.first, of_row.second, p == 1u) + i]; }
  return sum;
}

fn weightless(row: u32) -> bool { return (bitcast<u32>(weights[row]) << 1u) == 0u; }
`;
}

export function crossEntropyTermsKernel(variant: CrossEntropyVariant): Kernel {
  const { vec4, lanes } = variant;
  const element = elementType(vec4);
  return kernel({
    label: 'cross_entropy.terms',
    bindings: {
      student: read(bitsType(vec4)),
      teacher: read(element),
      partners: read('vec2<u32>'),
      weights: read('f32'),
      sums: write('u32'),
    },
    params,
    code: wgsl`${GRID}${FINITE}${treeSum(lanes)}${pairs(variant)}
var<workgroup> bad: atomic<u32>;

@compute @workgroup_size(${lanes})
fn terms(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) local: u32) {
  let group = flat_group(workgroup, groups);
  let row = min(group, params.rows - 1u);
  let width = params.width;
  let of_row = partners_of(row, width);
  let end = select(width, 0u, weightless(row) || of_row.count == 0u);
  var sum = real(0.0);
  var hit = false;
  for (var i = local; i < end; i += ${lanes}u) {
    let bits = student[row * width + i];
    let target_sum = targets(of_row, i);
    let target_bits = bitcast<Bits>(target_sum);
    hit |= any((bits & Bits(EXPONENT)) == Bits(EXPONENT)) | any((target_bits & Bits(EXPONENT)) == Bits(EXPONENT));
    sum += target_sum * log(select(real(TINY), bitcast<real>(bits), bits >= Bits(TINY_BITS)));
  }
  if (hit) { atomicStore(&bad, 1u); }
  let total = -weights[row] * tree_sum(local, across(sum));
  let term = select(bitcast<u32>(select(total, 0.0, end == 0u)), NAN_BITS, atomicLoad(&bad) == 1u);
  if (local == 0u && group < params.rows) { sums[row] = term; }
}
`,
  });
}

const TOTAL_LANES = 64;

export function crossEntropyTotalKernel(): Kernel {
  return kernel({
    label: 'cross_entropy.total',
    bindings: { sums: read('f32'), loss: write('f32') },
    params: { count: 'u32' },
    code: wgsl`${treeSum(TOTAL_LANES)}
@compute @workgroup_size(${TOTAL_LANES})
fn total(@builtin(local_invocation_index) local: u32) {
  var sum = 0.0;
  for (var i = local; i < params.count; i += ${TOTAL_LANES}u) { sum += sums[i]; }
  let result = tree_sum(local, sum);
  if (local == 0u) { loss[0] = result; }
}
`,
  });
}

export function crossEntropyBackwardKernel(variant: CrossEntropyVariant): Kernel {
  const { vec4, lanes } = variant;
  const element = elementType(vec4);
  return kernel({
    label: 'cross_entropy.backward',
    bindings: {
      student: read(element),
      teacher: read(element),
      partners: read('vec2<u32>'),
      weights: read('f32'),
      dloss: read('f32'),
      dstudent: write(element),
    },
    params,
    code: wgsl`${GRID}${pairs(variant)}
@compute @workgroup_size(${lanes})
fn backward(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) local: u32) {
  let row = flat_group(workgroup, groups);
  if (row >= params.rows) { return; }
  let width = params.width;
  let of_row = partners_of(row, width);
  let zero = weightless(row);
  let scale = -dloss[0] * weights[row];
  for (var i = local; i < width; i += ${lanes}u) {
    let p = student[row * width + i];
    let gradient = select(scale * targets(of_row, i) / p, real(0.0), bitcast<Bits>(p) < Bits(TINY_BITS));
    dstudent[row * width + i] = select(gradient, real(0.0), zero);
  }
}
`,
  });
}
