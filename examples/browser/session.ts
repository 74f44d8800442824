import {
  createEngine,
  decodeSafetensors,
  type Engine,
  ExitCode,
  type ImageSet,
  SopError,
  type TrainingOptions,
} from '../../src/index.js';
import { thumbnails } from './atlas.js';
import { givenSet } from './given-set.js';
import { History } from './history.js';
import { inWords } from './in-words.js';
import { Jobs } from './jobs.js';
import { Keeper } from './keeper.js';
import { builtInSet, type RunFacts } from './kept-run.js';
import { LiveRun } from './live-run.js';
import { OpenedWeights } from './opened-weights.js';
import { pagePresets } from './presets.js';
import type { Download, FromWorker, Phase, ToWorker, Trouble } from './protocol.js';
import { estimate, measureSpeed } from './speed.js';

type Post = (message: FromWorker, transfer?: Transferable[]) => void;

/**
 * Everything that computes, in a dedicated worker. Messages become jobs that run one after the other between training
 * steps: whatever a person asks for, the state is that of a finished step.
 */
export class Session {
  private phase: Phase = 'empty';
  private engine: Engine | null = null;
  private keeper: Keeper | null = null;
  private set: ImageSet | null = null;
  private source: RunFacts['source'] = 'shapes';
  /** What is looked at: a run, or the weights of a file. */
  private model: LiveRun | OpenedWeights | null = null;
  private readonly jobs = new Jobs(
    () => (this.phase === 'training' ? () => this.advance() : null),
    (error) => this.fail(error),
  );

  constructor(private readonly post: Post) {}

  receive(message: ToWorker): void {
    this.jobs.add(() => this.handle(message));
  }

  private async handle(message: ToWorker): Promise<void> {
    switch (message.type) {
      case 'open':
        return this.open();
      case 'use-shapes':
        if (this.free('The built-in shapes', 'choose them')) await this.useSet(builtInSet(), 'shapes');
        return;
      case 'use-images':
        if (this.free(message.images.name, 'choose them'))
          await this.useSet(await givenSet(message.images, this.post), 'images');
        return;
      case 'start':
        if (!this.going) await this.start(message.preset);
        return;
      case 'pause':
        if (this.phase === 'training') await this.rest('paused');
        return;
      case 'go-on':
        if (this.phase === 'paused') this.enter('training');
        return;
      case 'stop':
        if (this.going) await this.rest('finished');
        return;
      case 'restore':
        if (!this.going) await this.restore();
        return;
      case 'discard':
        return this.keeper?.discard();
      case 'select':
        if (this.model) {
          const selection = await this.model.looker.select(await this.model.encoder(), message.image);
          this.post({ type: 'selection', selection });
        }
        return;
      case 'download':
        return this.download(message.what);
      case 'open-file':
        return this.openFile(message.name, message.bytes);
      case 'keep':
        if (this.phase === 'training') await this.keep();
    }
  }

  /** Whether there is a run that is not over: what was pressed twice, or too late, must not end it. */
  private get going(): boolean {
    return this.phase === 'training' || this.phase === 'paused';
  }

  /** Whether `what` may be shown: a drop anywhere on the page must not end a run. */
  private free(what: string, choose: string): boolean {
    if (this.going) {
      const text = `${what} would take the place of what is trained here. Stop it, then ${choose} again.`;
      this.post({ type: 'note', text });
    }
    return !this.going;
  }

  private get run(): LiveRun | null {
    return this.model instanceof LiveRun ? this.model : null;
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    const { run, keeper } = this;
    const step = run?.step ?? (phase === 'lost' ? (keeper?.keptStep ?? 0) : 0);
    const steps = run?.run.totalSteps ?? keeper?.facts?.steps ?? 0;
    this.post({ type: 'phase', phase, step, steps });
  }

  /** Opens the device and what was kept. */
  private async open(): Promise<void> {
    const { name, kind } = (await this.device()).target;
    this.post({ type: 'opened', adapter: name, software: kind !== 'gpu' });
    this.keeper = await Keeper.open(this.post);
    await this.offer();
  }

  /** Tells of the run that a tab before this one left, if it did. */
  private async offer(): Promise<void> {
    const left = await this.keeper?.left();
    if (left) this.post({ type: 'left', run: left });
  }

  private async device(): Promise<Engine> {
    if (this.engine) return this.engine;
    const engine = await createEngine();
    this.engine = engine;
    // Met also when nothing runs that would notice.
    void engine.failed.then((error) => {
      if (this.engine === engine) this.jobs.add(() => Promise.reject(error));
    });
    return engine;
  }

  // Data.

  private async useSet(set: ImageSet, source: RunFacts['source']): Promise<void> {
    const engine = await this.device();
    await this.replace(null);
    [this.set, this.source] = [set, source];
    const info = await thumbnails(set);
    this.post({ type: 'set', set: info }, [info.atlas]);
    this.enter('ready');
    const speed = await measureSpeed(engine);
    const presets = await Promise.all(pagePresets.map((preset) => estimate(preset, set, engine, speed)));
    this.post({ type: 'presets', presets });
  }

  // Training.

  private async start(id: string): Promise<void> {
    const { set, source } = this;
    const preset = pagePresets.find((one) => one.id === id);
    if (!preset || !set) return;
    await this.replace(null);
    this.enter('ready');
    const facts = { preset: preset.name, steps: Number(preset.settings['train.steps']), set: set.name, source };
    await this.begin({ settings: preset.settings }, History.empty());
    await this.keeper?.begin(facts, set);
    await this.run?.look();
    this.enter('training');
  }

  /** Makes the run, then lets the model before it go: where that fails, nothing is lost. */
  private async begin(options: Pick<TrainingOptions, 'settings' | 'checkpoint'>, history: History): Promise<void> {
    if (!this.set) throw new Error('no pictures are chosen');
    const before = this.phase;
    this.enter('preparing');
    try {
      await this.replace(await LiveRun.begin(await this.device(), this.set, options, history, this.post));
    } catch (error) {
      this.enter(before);
      throw error;
    }
  }

  /** Some steps, then what is due. */
  private async advance(): Promise<void> {
    const { run, keeper } = this;
    if (!run) return this.enter('ready');
    try {
      await run.advance(this.jobs.interrupted, () => {
        if (keeper?.due) this.jobs.interrupt();
      });
    } catch (error) {
      this.enter('paused');
      throw error;
    }
    if (run.run.finished) await this.rest('finished');
    else if (keeper?.due) await this.keep();
  }

  /** Training pauses or ends: it is kept and looked at. */
  private async rest(phase: 'paused' | 'finished'): Promise<void> {
    this.enter(phase);
    await this.keep();
    await this.run?.look();
  }

  private async keep(): Promise<void> {
    if (this.run) await this.keeper?.keep(this.run.run, this.run.history);
  }

  /** Goes on from what was kept: after a reload, or a lost device. */
  private async restore(): Promise<void> {
    const kept = await this.keeper?.newest();
    if (!kept) return this.post({ type: 'trouble', kind: 'data', text: 'Nothing was kept: press “Start”.' });
    const { facts, checkpoint, history } = kept;
    if (this.set?.name !== facts.set) {
      const set = await this.keeper?.pictures(facts);
      if (!set) {
        const text = `The pictures (${facts.set}) could not be kept with the run. Choose the same ones again, then press “Resume”.`;
        this.post({ type: 'trouble', kind: 'data', text });
        return this.offer();
      }
      await this.useSet(set, facts.source);
    }
    await this.begin({ checkpoint }, history);
    await this.run?.look();
    this.enter('training');
  }

  /** This model takes the place of the one before, of which nothing stays on the device. */
  private async replace(model: LiveRun | OpenedWeights | null): Promise<void> {
    const before = this.model;
    this.model = model;
    await before?.destroy();
  }

  // Saving and opening.

  private async download(what: Download): Promise<void> {
    const { run } = this;
    const send = (name: string, bytes: Uint8Array): void =>
      this.post({ type: 'file', name, bytes: bytes as Uint8Array<ArrayBuffer> });
    if (what === 'weights' && this.model) {
      const { name, bytes } = await this.model.weights();
      send(name, bytes);
    } else if (what === 'metrics' && run) send('metrics.jsonl', run.history.bytes());
    else if (what === 'checkpoint' && run) send(`checkpoint-${run.step}.safetensors`, await run.run.checkpoint());
  }

  private async openFile(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.free(name, 'open the file')) return;
    if (/\.jsonl$/i.test(name)) return this.openMetrics(bytes);
    const { metadata } = decodeSafetensors(bytes, name);
    if (!this.set) await this.useSet(builtInSet(), 'shapes');
    if (metadata.has('sop-gpu.checkpoint') && metadata.has('sop-gpu.settings')) return this.openCheckpoint(name, bytes);
    const engine = await this.device();
    const opened = await OpenedWeights.open(engine, this.set!, name, bytes);
    await this.replace(opened);
    this.post({ type: 'history', points: [], looks: [] });
    this.post({ type: 'look', look: await opened.look(engine) });
    this.enter('looking');
  }

  private async openCheckpoint(name: string, checkpoint: Uint8Array): Promise<void> {
    const history = History.empty();
    await this.begin({ checkpoint }, history);
    const { run, set, source } = this;
    if (!run || !set) return;
    await this.keeper?.begin({ preset: name, steps: run.run.totalSteps ?? 0, set: set.name, source }, set);
    await this.rest('paused');
  }

  private openMetrics(bytes: Uint8Array): void {
    const history = History.read(bytes);
    this.post({ type: 'history', points: history.points(), looks: history.looks() });
  }

  // What goes wrong.

  private async fail(error: unknown): Promise<void> {
    const code = error instanceof SopError ? error.exitCode : ExitCode.internal;
    if (code === ExitCode.tryAgain) return this.lose();
    const kinds: Partial<Record<number, Trouble>> = {
      [ExitCode.unavailable]: this.engine ? 'training' : 'no-adapter',
      [ExitCode.io]: 'storage',
      [ExitCode.data]: 'file',
      [ExitCode.noInput]: 'data',
      [ExitCode.config]: 'file',
    };
    const text =
      error instanceof SopError ? inWords(error) : `Something went wrong: ${String(error)}. Reload the page.`;
    this.post({ type: 'trouble', kind: kinds[code] ?? 'training', text });
    this.enter(this.phase); // what was announced did not come
  }

  /** The device is gone, and with it everything on it; the checkpoint in memory is not. */
  private lose(): void {
    if (!this.engine) return; // told before
    const step = this.run?.step ?? 0;
    [this.model, this.engine] = [null, null];
    const kept = this.keeper?.keptStep ?? null;
    const why =
      'The graphics device was lost, as happens when a driver restarts or another program needs all of its memory.';
    if (kept === null) {
      const again = step > 0 ? ' Nothing was kept yet: it begins again, with the same numbers.' : '';
      this.enter(this.set ? 'ready' : 'empty');
      this.post({ type: 'note', text: `${why}${again} Press “Start” to open the device again.` });
    } else {
      this.enter('lost');
      const again = kept < step ? ` Steps ${kept + 1} to ${step} run again and give the same numbers.` : '';
      const text = `${why} Step ${kept} is kept. Press “Go on” to open the device again.${again}`;
      this.post({ type: 'trouble', kind: 'lost', text });
    }
  }
}
