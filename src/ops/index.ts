import { add } from './add.js';
import { sum } from './sum.js';

/** All operations: the one list. To add a kernel see README, "How to add a kernel". */
export const ops = [add, sum] as const;
