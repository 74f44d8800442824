/** How often tests do what they do over and over: few times in `npm test`, the full number in `npm run test:long`. */
export const long = Boolean(process.env['SOP_GPU_LONG']);

/** SOP_GPU_SEED, 1: of everything that is drawn over and over. */
export const seed = Number(process.env['SOP_GPU_SEED'] ?? 1);

/** What a test file tells the one that runs all: how many rounds of something are done, of how many, and whether one failed. */
export interface Progress {
  readonly what: string;
  readonly done: number;
  readonly of: number;
  readonly failed: boolean;
}

/** Between two tellings of one kind of rounds. */
const TELL_EVERY_MS = 15_000;

/** Counts rounds, and tells how far they are; whoever leaves the loop before its end says that a round failed. */
export function* rounds(what: string, few: number, many: number): Generator<number> {
  const of = long ? many : few;
  let [done, told] = [0, performance.now()];
  const tell = (failed: boolean): void => void process.send?.({ what, done, of, failed } satisfies Progress);
  try {
    for (; done < of; done++) {
      if (performance.now() - told > TELL_EVERY_MS) {
        told = performance.now();
        tell(false);
      }
      yield done;
    }
  } finally {
    tell(done < of);
  }
}
