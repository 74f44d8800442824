import { add } from './add.js';
import { columnSum } from './column_sum.js';
import { matmul } from './matmul.js';
import { sum } from './sum.js';

/** All operations: the one list. To add a kernel see README, "How to add a kernel". */
export const ops = [add, columnSum, matmul, sum] as const;
