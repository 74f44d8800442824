import { CheckpointStore, type ImageSet, SopError, type TrainingRun } from '../../src/index.js';
import { History } from './history.js';
import { inWords } from './in-words.js';
import { builtInSet, type RunFacts, readFacts, readPictures, writeFacts, writePictures } from './kept-run.js';
import type { FromWorker, Kept } from './protocol.js';

/** They take turns as checkpoints do: of a tab that is closed in the middle of writing, one of each is whole. */
const METRICS = ['metrics.0.jsonl', 'metrics.1.jsonl'] as const;
/** How long a page that is being left may need to give its lock back, milliseconds; and how long asking for it takes. */
const LEAVING_MS = 3000;
const ASKING_MS = 300;
/** Seconds between two checkpoints at least; more where writing one takes long. */
const KEEP_SECONDS = 15;
/** Writing checkpoints takes at most this share of the time. */
const WRITING = 0.1;

/** What a run goes on from. */
export interface KeptRun {
  readonly facts: RunFacts;
  readonly checkpoint: Uint8Array;
  readonly history: History;
}

/**
 * Keeps the run: its last checkpoint in memory, for a device that is lost, and all of it in the browser's storage, for a tab
 * that is closed. What the storage refuses costs a sentence, never the run.
 */
export class Keeper {
  /** What is known of the run; null before the first. */
  facts: RunFacts | null = null;
  private last: (KeptRun & { readonly step: number }) | null = null;
  private at = 0;
  private seconds = 0;
  private refused = false;
  /** Of METRICS, the one to write next. */
  private turn: 0 | 1 = 0;

  private store: CheckpointStore | null = null;

  private constructor(private readonly post: (message: FromWorker) => void) {}

  /** Opens the storage; without one only memory is left, and that is told. */
  static async open(post: (message: FromWorker) => void): Promise<Keeper> {
    const keeper = new Keeper(post);
    await keeper.claim(LEAVING_MS);
    return keeper;
  }

  /** Two tabs that keep their runs in one place would mix them: the first one has it until it is closed. */
  private async claim(patience: number): Promise<void> {
    if (this.store) return;
    if (!(await ownsStorage(patience))) {
      const text =
        'Another tab of this page keeps its run in this browser. What is learned in this tab lasts as long as the tab: save the weights of a long run as a file.';
      return this.post({ type: 'note', text });
    }
    this.store = await CheckpointStore.open('sop-gpu').catch((error: unknown) => {
      if (!(error instanceof SopError)) throw error;
      this.post({ type: 'trouble', kind: 'storage', text: inWords(error) });
      return null;
    });
  }

  /** The step of the last checkpoint in memory; null without one. */
  get keptStep(): number | null {
    return this.last?.step ?? null;
  }

  /** The run that a tab before this one left. */
  async left(): Promise<Kept | null> {
    const facts = this.store && (await readFacts(this.store));
    const newest = facts && (await this.store?.newest());
    return facts && newest ? { ...facts, step: newest.step } : null;
  }

  /** A new run takes the place of what was kept. */
  async begin(facts: RunFacts, set: ImageSet): Promise<void> {
    this.facts = facts;
    this.last = null;
    this.refused = false;
    await this.claim(ASKING_MS);
    this.at = performance.now();
    await this.storing(async (store) => {
      await store.clear();
      await writeFacts(store, facts);
      if (facts.source === 'images') await writePictures(store, set);
    });
  }

  get due(): boolean {
    return performance.now() - this.at > 1000 * Math.max(KEEP_SECONDS, this.seconds / WRITING);
  }

  /** Keeps the run as it is now. */
  async keep(run: TrainingRun, history: History): Promise<void> {
    const { facts } = this;
    if (!facts) throw new Error('no run was begun');
    const started = performance.now();
    const checkpoint = await run.checkpoint();
    const { step } = run;
    this.last = { facts, step, checkpoint, history };
    await this.storing(async (store) => {
      await store.write(METRICS[this.turn], history.bytes());
      await store.save(checkpoint);
      this.turn = this.turn === 0 ? 1 : 0;
      this.refused = false;
      this.post({ type: 'kept', step });
    });
    this.at = performance.now();
    this.seconds = (this.at - started) / 1000;
  }

  /** What to go on from: of this tab, else of the one before; null where nothing was kept. */
  async newest(): Promise<KeptRun | null> {
    if (this.last) return this.last;
    const { store } = this;
    const facts = store && (await readFacts(store));
    const stored = facts && (await store.newest());
    if (!stored) return null;
    this.facts = facts;
    this.at = performance.now();
    const history = await this.storedHistory(store);
    this.last = { facts, step: stored.step, checkpoint: stored.bytes, history };
    return this.last;
  }

  /** The longer one: what it holds beyond the checkpoint is cut where the run goes on. */
  private async storedHistory(store: CheckpointStore): Promise<History> {
    const [first, second] = await Promise.all(
      METRICS.map(async (name) => History.read((await store.read(name)) ?? new Uint8Array())),
    );
    if (!first || !second) return History.empty();
    const firstIsLonger = first.points().length > second.points().length;
    this.turn = firstIsLonger ? 1 : 0;
    return firstIsLonger ? first : second;
  }

  /** The pictures of a kept run; null where they could not be kept. */
  async pictures({ source }: RunFacts): Promise<ImageSet | null> {
    return source === 'shapes' ? builtInSet() : this.store && (await readPictures(this.store));
  }

  async discard(): Promise<void> {
    await this.store?.clear();
  }

  private async storing(work: (store: CheckpointStore) => Promise<void>): Promise<void> {
    if (!this.store) return;
    try {
      await work(this.store);
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
      // Said once, until it works again.
      if (!this.refused) this.post({ type: 'trouble', kind: 'storage', text: `${inWords(error)} Training goes on.` });
      this.refused = true;
    }
  }
}

let owned = false;

/** Whether this tab has the lock, which it then keeps for as long as it lives. @param patience milliseconds */
async function ownsStorage(patience: number): Promise<boolean> {
  await new Promise<void>((resolve) => {
    if (owned) return resolve();
    const hold = (): Promise<never> => {
      owned = true;
      resolve();
      return new Promise(() => {});
    };
    navigator.locks.request('sop-gpu', { signal: AbortSignal.timeout(patience) }, hold).catch(() => resolve());
  });
  return owned;
}
