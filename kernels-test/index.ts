import { addTests } from './add.js';
import { columnSumTests } from './column_sum.js';
import { gatherRowsTests } from './gather_rows.js';
import { geluTests } from './gelu.js';
import type { AnyOpTest } from './interpreter.js';
import { layernormTests } from './layernorm.js';
import { matmulTests } from './matmul.js';
import { patchifyTests } from './patchify.js';
import { residualTests } from './residual.js';
import { sumTests } from './sum.js';

/** All op tests: the one list. */
export const opTests: readonly AnyOpTest[] = [
  addTests,
  columnSumTests,
  gatherRowsTests,
  geluTests,
  layernormTests,
  matmulTests,
  patchifyTests,
  residualTests,
  sumTests,
].flat() as readonly unknown[] as readonly AnyOpTest[];
