/** How often tests do what they do over and over: few times in `npm test`, the full number in `npm run test:long`. */
export const long = Boolean(process.env['SOP_GPU_LONG']);

/** SOP_GPU_SEED, 1: of everything that is drawn over and over. */
export const seed = Number(process.env['SOP_GPU_SEED'] ?? 1);

/** What a test file tells the one that runs all: how many rounds of something are done, and of how many. */
export interface Progress {
  readonly what: string;
  readonly done: number;
  readonly of: number;
}

/** Between two tellings of one kind of rounds. */
const TELL_EVERY_MS = 15_000;

/** Counts rounds, and tells how far they are; that they are all done is told only where no round failed. */
export function* rounds(what: string, few: number, many: number): Generator<number> {
  const of = long ? many : few;
  const tell = (done: number): void => void process.send?.({ what, done, of } satisfies Progress);
  let told = performance.now();
  for (let round = 0; round < of; round++) {
    yield round;
    if (performance.now() - told < TELL_EVERY_MS) continue;
    told = performance.now();
    tell(round + 1);
  }
  tell(of);
}
