import { add } from './add.js';
import { columnSum } from './column_sum.js';
import { gatherRows, scatterRows } from './gather_rows.js';
import { gelu, geluBackward } from './gelu.js';
import { layernorm, layernormBackwardInput, layernormBackwardParameters } from './layernorm.js';
import { matmul } from './matmul.js';
import { patchify } from './patchify.js';
import { residual, residualBackward } from './residual.js';
import { sum } from './sum.js';

/** All operations: the one list. To add a kernel see README, "How to add a kernel". */
export const ops = [
  add,
  columnSum,
  gatherRows,
  gelu,
  geluBackward,
  layernorm,
  layernormBackwardInput,
  layernormBackwardParameters,
  matmul,
  patchify,
  residual,
  residualBackward,
  scatterRows,
  sum,
] as const;
