/**
 * Counter-based random numbers: every number is a pure function of a key and a counter, and a key one of (seed, purpose,
 * epoch, step, item). So the order of work does not matter and a resumed run draws what an unbroken one would have.
 * Generator: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011); the same
 * in WGSL is shaders/lib/rng.ts.
 */

/** Two 32-bit words. */
export type Words = readonly [number, number];

/** Key of a stream of random numbers. */
export type Key = Words;

/**
 * What random numbers are drawn for: streams of different purposes have nothing in common. No file stores these numbers,
 * but changing one changes what every seed gives.
 */
export const purposes = {
  init: 1,
  shuffle: 2,
  augment: 3,
  mask: 4,
  anchorsCls: 5,
  anchorsPatch: 6,
  patchRow: 7,
  dropPath: 8,
  memory: 9,
  evaluation: 10,
  synthetic: 11,
  selectCls: 12,
  selectPatch: 13,
} as const;
export type Purpose = keyof typeof purposes;

/** Bits by which the eight rounds of a cycle rotate. */
export const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const ROUNDS = 20;
/** Skein's key schedule parity. */
export const PARITY = 0x1bd11bda;
/** Set in the second counter word when a key is derived, never when a number is drawn. */
export const FOLD = 0x80000000;
/** Rounds of `permuted`. */
export const FEISTEL_ROUNDS = 8;
/** Stream numbers that `taskStream` keeps for the purposes of one task. */
const STREAMS = 256;

/** Threefry-2x32-20 of a key and a counter: 64 random bits. */
export function threefry2x32([k0, k1]: Key, [c0, c1]: Words): Words {
  const schedule = [k0, k1, k0 ^ k1 ^ PARITY];
  let a = (c0 + k0) | 0;
  let b = (c1 + k1) | 0;
  for (let round = 0; round < ROUNDS; round++) {
    const bits = ROTATIONS[round % 8] ?? 0;
    a = (a + b) | 0;
    b = ((b << bits) | (b >>> (32 - bits))) ^ a;
    if (round % 4 === 3) {
      const group = (round + 1) / 4;
      a = (a + (schedule[group % 3] ?? 0)) | 0;
      b = (b + (schedule[(group + 1) % 3] ?? 0) + group) | 0;
    }
  }
  return [a >>> 0, b >>> 0];
}

/** Low and high word of a whole number up to 2^53. */
function words(n: number): Words {
  if (!Number.isSafeInteger(n) || n < 0) throw new RangeError(`${n} is no whole number from 0 to 2^53 - 1`);
  return [n >>> 0, Math.floor(n / 2 ** 32)];
}

/** Key of the `n`-th sub-stream of `key`, independent of the numbers drawn from `key` itself. */
export function fold(key: Key, n: number): Key {
  const [low, high] = words(n);
  return threefry2x32(key, [low, (high | FOLD) >>> 0]);
}

/** Key of the stream named by a seed and any whole numbers: `stream(seed, a, b)` and `stream(seed, b, a)` differ. */
export function stream(seed: number, ...path: readonly number[]): Key {
  return path.reduce<Key>(fold, words(seed));
}

/** Attribute `stream` of `sample_rows` for one of the independent tasks of a step. */
export function taskStream(purpose: Purpose, task: number): number {
  return purposes[purpose] + STREAMS * task;
}

/** Uniform in [0, 1), 53 bits. */
export function uniform(key: Key, counter: number): number {
  const [a, b] = threefry2x32(key, words(counter));
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53;
}

/** Whole number in [0, n), n up to 2^32; the bias is below n / 2^53. */
function below(key: Key, counter: number, n: number): number {
  return Math.floor(uniform(key, counter) * n);
}

/** Standard normal (Box and Muller), at most 6.7 in size. */
function normal(key: Key, counter: number): number {
  return boxMuller(threefry2x32(key, words(counter)));
}

function boxMuller([a, b]: Words): number {
  return Math.sqrt(-2 * Math.log((a + 1) / 2 ** 32)) * Math.cos((2 * Math.PI * b) / 2 ** 32);
}

/**
 * Normal of mean 0 and deviation `std` given that it lies in [-2, 2]: absolute bounds, as PyTorch's `trunc_normal_`.
 * By rejection, so `std` should not be far above 2. `counter` below 2^32.
 */
export function truncatedNormal(key: Key, counter: number, std: number): number {
  for (let attempt = 0; ; attempt++) {
    const value = std * boxMuller(threefry2x32(key, [counter, attempt]));
    if (Math.abs(value) <= 2) return value;
  }
}

/** What a sequence of draws belongs to; what is left out is 0. */
export interface Occasion {
  readonly seed: number;
  readonly purpose: Purpose;
  readonly epoch?: number;
  readonly step?: number;
  readonly item?: number;
}

/** A sequence of draws, the same for the same (seed, purpose, epoch, step, item). */
export class Draws {
  private readonly key: Key;
  private counter = 0;

  constructor({ seed, purpose, epoch = 0, step = 0, item = 0 }: Occasion) {
    this.key = stream(seed, purposes[purpose], epoch, step, item);
  }

  /** Uniform in [low, high). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * uniform(this.key, this.counter++);
  }

  /** True with probability `p`; always for 1, never for 0. */
  chance(p: number): boolean {
    return uniform(this.key, this.counter++) < p;
  }

  /** Whole number in [0, n). */
  below(n: number): number {
    return below(this.key, this.counter++, n);
  }

  /** Standard normal. */
  normal(): number {
    return normal(this.key, this.counter++);
  }

  /** As the function of this name. */
  truncatedNormal(std: number): number {
    return truncatedNormal(this.key, this.counter++, std);
  }

  /** 0 ... n - 1 in an order of which all are equally likely (Fisher and Yates). */
  permutation(n: number): Uint32Array {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let last = n - 1; last > 0; last--) {
      const other = this.below(last + 1);
      const kept = order[last] ?? 0;
      order[last] = order[other] ?? 0;
      order[other] = kept;
    }
    return order;
  }
}

/** Order in which an epoch visits the `n` items of a data set. */
export function permutation(seed: number, epoch: number, n: number): Uint32Array {
  return new Draws({ seed, purpose: 'shuffle', epoch }).permutation(n);
}

/** Bits of each half of the Feistel network over [0, n), n up to 2^32. */
export function feistelBits(n: number): number {
  return Math.max(1, Math.ceil(Math.ceil(Math.log2(n)) / 2));
}

/**
 * Place of `index` under a keyed permutation of [0, n), found without the rest of it: a balanced Feistel network over the
 * next power of four with Threefry as round function, walked along its cycle until it lands inside. `sample_rows` runs the
 * same on the device.
 */
export function permuted(key: Key, index: number, n: number): number {
  const bits = feistelBits(n);
  const mask = 2 ** bits - 1;
  let value = index;
  do {
    let left = value >>> bits;
    let right = value & mask;
    for (let round = 0; round < FEISTEL_ROUNDS; round++) {
      const [mixed] = threefry2x32(key, [right, round]);
      [left, right] = [right, left ^ (mixed & mask)];
    }
    value = ((left << bits) | right) >>> 0;
  } while (value >= n);
  return value;
}
