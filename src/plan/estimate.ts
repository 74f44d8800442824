import type { TargetKind } from '../gpu/target.js';
import type { Plan } from './plan.js';

/**
 * What an adapter does in a second, to compare plans with each other: arithmetic of good kernels, memory traffic, and what a
 * dispatch costs beside its work. Measured on the software adapters; a GPU in the middle of what is sold.
 */
const SPEED: Readonly<Record<TargetKind, { flops: number; bytes: number; dispatch: number }>> = {
  lavapipe: { flops: 30e9, bytes: 3e9, dispatch: 27.5e-6 },
  swiftshader: { flops: 4e9, bytes: 1.5e9, dispatch: 20e-6 },
  gpu: { flops: 2e12, bytes: 2e11, dispatch: 5e-6 },
};

/** Seconds that arithmetic alone takes. */
export function arithmeticSeconds(flops: number, kind: TargetKind): number {
  return flops / SPEED[kind].flops;
}

/** Seconds that a plan takes by its costs: each node as long as its arithmetic or its traffic, whichever is slower. */
export function estimateSeconds({ costs, launches, target }: Plan): number {
  const { flops, bytes, dispatch } = SPEED[target.kind];
  const work = costs.reduce((sum, cost) => sum + Math.max(cost.flops / flops, cost.bytes / bytes), 0);
  return work + dispatch * launches.length;
}
