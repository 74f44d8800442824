import { addTests } from './add.js';
import type { AnyOpTest } from './interpreter.js';
import { sumTests } from './sum.js';

/** All op tests: the one list. */
export const opTests: readonly AnyOpTest[] = [addTests, sumTests].flat() as readonly unknown[] as readonly AnyOpTest[];
