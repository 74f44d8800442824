import type { Lifetime, Temporary } from './lifetimes.js';

/** A whole buffer that several temporaries use one after the other. */
export interface Slot {
  readonly bytes: number;
  /** Largest first. */
  readonly users: readonly Temporary[];
}

/**
 * Assigns every temporary to a slot so that no two live ones share it: largest first, into the slot it fits best, else a
 * new one (greedy by size for shared objects, Pisarchyk and Lee 2020). Whole buffers and not ranges of one, because WebGPU
 * refuses a dispatch that reads and writes one buffer even at disjoint ranges.
 */
export function assignSlots(temporaries: readonly Temporary[]): {
  readonly slots: readonly Slot[];
  readonly slotOf: readonly number[];
} {
  const order = temporaries.map((user, index) => ({ user, index })).sort((a, b) => b.user.bytes - a.user.bytes);
  const slots: { bytes: number; users: Temporary[]; busy: Lifetime[] }[] = [];
  const slotOf: number[] = [];
  for (const { user, index } of order) {
    // Slots are made in falling order of size, so every slot is large enough and the last free one is the tightest.
    let chosen = slots.length;
    let place = -1;
    while (place < 0 && chosen > 0) place = gapFor(user.lifetime, slots[--chosen]!.busy);
    if (place < 0) chosen = slots.push({ bytes: user.bytes, users: [], busy: [] }) - 1;
    slots[chosen]!.users.push(user);
    slots[chosen]!.busy.splice(Math.max(0, place), 0, user.lifetime);
    slotOf[index] = chosen;
  }
  return { slots, slotOf };
}

/** Where a lifetime fits between others, which do not overlap and are in order; -1 where it does not. */
function gapFor({ first, last }: Lifetime, busy: readonly Lifetime[]): number {
  let [low, high] = [0, busy.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (busy[middle]!.first <= last) low = middle + 1;
    else high = middle;
  }
  return low > 0 && busy[low - 1]!.last >= first ? -1 : low;
}
