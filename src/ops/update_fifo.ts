import { byFour, eachGrid } from '../../shaders/lib/each.js';
import { updateFifoAdvanceKernel, updateFifoInsertKernel } from '../../shaders/update_fifo.wgsl.js';
import { defineOp, input, misfit, type NoAttributes } from '../graph/op.js';
import { elements } from '../graph/tensor.js';

/**
 * Inserts rows into a FIFO memory (the paper's Appendix A), unless the flag is up: row i goes to (pointer + i) mod N, of
 * more than N rows the last N; then pointer = (pointer + B) mod N.
 * Inputs: flag u32 [1], memory [N, d] (changed), pointer u32 [1] (changed), rows [B, d]. No outputs.
 */
export const updateFifo = defineOp<NoAttributes>({
  name: 'update_fifo',
  words: (i) => i === 0 || i === 2,
  updates: [1, 2],
  infer([flag, memory, pointer, rows]) {
    const fits = memory?.shape.length === 2 && rows?.shape.length === 2 && memory.shape[1] === rows.shape[1];
    if (!fits) throw misfit('update_fifo', { flag, memory, pointer, rows }, '[1], [N, d], [1], [B, d]');
    return [];
  },
  launches({ inputs: [, memory, , rows] }) {
    const [size = 0, columns = 0] = memory?.shape ?? [];
    const batch = rows?.shape[0] ?? 0;
    const { vec4, width } = byFour(columns);
    const count = Math.min(batch, size) * width;
    return [
      {
        kernel: updateFifoInsertKernel({ vec4 }),
        bindings: { flag: input(0), pointer: input(2), rows: input(3), memory: input(1) },
        params: { count, first_row: Math.max(0, batch - size), width, size },
        workgroups: eachGrid(count),
      },
      {
        kernel: updateFifoAdvanceKernel(),
        bindings: { flag: input(0), pointer: input(2) },
        params: { rows: batch, size },
        workgroups: [1, 1, 1],
      },
    ];
  },
  cost: ([, , , rows]) => ({ bytes: 8 * elements(rows) }),
});
