import { addTests } from './add.js';
import { columnSumTests } from './column_sum.js';
import type { AnyOpTest } from './interpreter.js';
import { matmulTests } from './matmul.js';
import { sumTests } from './sum.js';

/** All op tests: the one list. */
export const opTests: readonly AnyOpTest[] = [addTests, columnSumTests, matmulTests, sumTests].flat() as readonly unknown[] as readonly AnyOpTest[];
