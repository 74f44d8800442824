import { type Lifetime, overlap, type Temporary } from './lifetimes.js';

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
  const order = temporaries.map((_, i) => i).sort((a, b) => size(temporaries, b) - size(temporaries, a) || a - b);
  const slots: { bytes: number; users: Temporary[]; busy: Lifetime[] }[] = [];
  const slotOf = new Array<number>(temporaries.length).fill(-1);
  for (const index of order) {
    const user = temporaries[index];
    if (!user) continue;
    // Slots are made in falling order of size, so every slot is large enough and the last free one is the tightest.
    let chosen = slots.length - 1;
    while (chosen >= 0 && slots[chosen]?.busy.some((lifetime) => overlap(lifetime, user.lifetime))) chosen -= 1;
    if (chosen < 0) chosen = slots.push({ bytes: user.bytes, users: [], busy: [] }) - 1;
    slots[chosen]?.users.push(user);
    slots[chosen]?.busy.push(user.lifetime);
    slotOf[index] = chosen;
  }
  return { slots, slotOf };
}

function size(temporaries: readonly Temporary[], index: number): number {
  return temporaries[index]?.bytes ?? 0;
}
