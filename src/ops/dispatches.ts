import type { Target } from '../gpu/target.js';

/** Workgroups of one dispatch, of those that an operation needs. */
export interface Part {
  readonly first: number;
  readonly count: number;
  /** Their share of the work. */
  readonly flops: number;
}

/**
 * `count` workgroups, or rows of them, with `flops` of work in all, in as few equal parts as the bound on a dispatch allows.
 * @param longest more are in no part
 */
export function dispatchParts(
  { maxDispatchFlops }: Target,
  count: number,
  flops: number,
  longest = Number.POSITIVE_INFINITY,
): Part[] {
  const most = Math.max(1, Math.min(longest, Math.floor((maxDispatchFlops * count) / Math.max(1, flops))));
  const together = Math.ceil(count / Math.ceil(count / most));
  return Array.from({ length: Math.ceil(count / together) }, (_, i) => {
    const first = i * together;
    const own = Math.min(together, count - first);
    return { first, count: own, flops: (flops * own) / count };
  });
}

/** Workgroups of one dispatch in several directions. */
export interface Block {
  readonly first: readonly number[];
  readonly count: readonly number[];
  readonly flops: number;
}

/** `dispatchParts` in several directions, the first of which is cut first; none has more than a dispatch may have in one. */
export function dispatchBlocks(target: Target, counts: readonly number[], flops: number): Block[] {
  return counts.reduce<Block[]>(
    (blocks, count) =>
      blocks.flatMap((block) =>
        dispatchParts(target, count, block.flops, target.maxWorkgroupsPerDimension).map(({ first, count, flops }) => ({
          first: [...block.first, first],
          count: [...block.count, count],
          flops,
        })),
      ),
    [{ first: [], count: [], flops }],
  );
}
