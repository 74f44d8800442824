import { wgsl } from './kernel.js';
import type { RowLayout } from './rows.js';

/** `row_max(v)` beside the `row_sum(v)` of `eachRow`: the largest number over the lanes of a row. */
export function rowMax({ by, lanes }: RowLayout): string {
  return wgsl`
#if ${by === 'workgroup'}
var<workgroup> largest: array<f32, ${lanes}>;
#endif
fn row_max(v: f32) -> f32 {
#if ${by === 'invocation'}
  return v;
#elif ${by === 'subgroup'}
  return subgroupMax(v);
#else
  workgroupBarrier();
  largest[lane] = v;
  for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
    workgroupBarrier();
    if (lane < half) { largest[lane] = max(largest[lane], largest[lane + half]); }
  }
  workgroupBarrier();
  return largest[0];
#endif
}
`;
}
