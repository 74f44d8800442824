import {
  CheckpointStore,
  createEngine,
  decodeSafetensors,
  type Engine,
  ExitCode,
  evaluationLine,
  type ImageEncoder,
  type ImageSet,
  loadWeights,
  metricsLine,
  pictureSet,
  SopError,
  type StepRecord,
  type TrainingOptions,
  type TrainingRun,
} from '../../src/index.js';
import { thumbnails } from './atlas.js';
import {
  builtInSet,
  type MetricsRecord,
  metricsRecords,
  metricsText,
  type RunFacts,
  readFacts,
  readMetrics,
  readPictures,
  writeFacts,
  writeMetrics,
  writePictures,
} from './kept-run.js';
import { Looker } from './looker.js';
import { pagePresets } from './presets.js';
import type { Download, FromWorker, GivenImages, Phase, StepPoint, ToWorker, Trouble } from './protocol.js';
import { estimate, measureSpeed } from './speed.js';

type Post = (message: FromWorker, transfer?: Transferable[]) => void;

/** More pictures than these a page does not hold. */
const MOST_PICTURES = 4096;
/** Seconds between two checkpoints at least; more where writing one takes long. */
const KEEP_SECONDS = 15;
/** Writing checkpoints and looking take at most this share of the time each. */
const SHARE = 0.1;
/** Steps between two looks at least. */
const LOOK_STEPS = 10;
/** Milliseconds between two messages about steps. */
const REPORT_MS = 150;

/**
 * Everything that computes, in a dedicated worker. Messages become jobs that run one after the other between training
 * steps: whatever a person asks for, the state is that of a finished step.
 */
export class Session {
  private engine: Engine | null = null;
  private store: CheckpointStore | null = null;
  private set: ImageSet | null = null;
  private source: RunFacts['source'] = 'shapes';
  private run: TrainingRun | null = null;
  private facts: RunFacts | null = null;
  private opened: { readonly encoder: ImageEncoder; readonly bytes: Uint8Array<ArrayBuffer> } | null = null;
  private looker: Looker | null = null;
  private records: MetricsRecord[] = [];
  private phase: Phase = 'empty';
  /** The last checkpoint, for a lost device where the browser keeps no files. */
  private checkpoint: { readonly step: number; readonly bytes: Uint8Array } | null = null;
  private readonly kept = { at: 0, seconds: 0, failing: false };
  private readonly looked = { next: 0, seconds: 0 };
  private readonly jobs: (() => Promise<void>)[] = [];
  private pumping = false;
  private interrupt = new AbortController();
  private unreported: StepPoint[] = [];
  private reportedAt = 0;

  constructor(private readonly post: Post) {}

  receive(message: ToWorker): void {
    this.enqueue(() => this.handle(message));
  }

  private enqueue(job: () => Promise<void>): void {
    this.jobs.push(job);
    this.interrupt.abort();
    void this.pump();
  }

  private async pump(): Promise<void> {
    if (this.pumping) return;
    this.pumping = true;
    while (this.jobs.length > 0 || this.phase === 'training') {
      const job = this.jobs.shift() ?? (() => this.trainOn());
      await job().catch((error: unknown) => this.fail(error));
    }
    this.pumping = false;
  }

  private fail(error: unknown): void {
    const code = error instanceof SopError ? error.exitCode : ExitCode.internal;
    if (this.phase === 'lost') return;
    if (code === ExitCode.tryAgain) {
      this.lost();
      return;
    }
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
    if (this.phase === 'preparing') this.enter(this.set ? 'ready' : 'empty');
    else if (this.phase === 'training') this.enter('paused');
  }

  private lost(): void {
    const step = this.run?.step ?? 0;
    const from = this.checkpoint?.step ?? 0;
    this.run = null;
    this.opened = null;
    this.engine = null;
    const again = from < step ? ` Steps ${from + 1} to ${step} run again and give the same numbers.` : '';
    const text = `The graphics device was lost, as happens when a driver restarts or another program needs it. Step ${from} is kept. Press “Go on” to open the device again.${again}`;
    this.enter('lost');
    this.post({ type: 'trouble', kind: 'lost', text });
  }

  private async handle(message: ToWorker): Promise<void> {
    switch (message.type) {
      case 'open':
        return this.open();
      case 'use-shapes':
        return this.useSet(builtInSet(), 'shapes');
      case 'use-images':
        return this.useSet(await this.decode(message.images), 'images');
      case 'start':
        return this.start(message.preset);
      case 'pause':
        if (this.phase !== 'training') return;
        this.enter('paused');
        await this.keep();
        return this.look();
      case 'go-on':
        if (this.phase === 'paused') this.enter('training');
        return;
      case 'stop':
        if (this.phase === 'training' || this.phase === 'paused') await this.finish();
        return;
      case 'restore':
        return this.restore();
      case 'discard':
        await this.store?.clear();
        return;
      case 'select':
        return this.select(message.image);
      case 'download':
        return this.download(message.what);
      case 'open-file':
        return this.openFile(message.name, message.bytes);
      case 'keep':
        if (this.run && this.phase === 'training') await this.keep();
    }
  }

  /** Opens the device and what was kept. */
  private async open(): Promise<void> {
    const engine = await this.openEngine();
    this.store = await CheckpointStore.open('sop-gpu').catch((error: unknown) => {
      if (!(error instanceof SopError)) throw error;
      this.post({ type: 'trouble', kind: 'storage', text: inWords(error) });
      return null;
    });
    const facts = this.store && (await readFacts(this.store));
    const newest = facts && (await this.store?.newest());
    const kept = facts && newest ? { ...facts, step: newest.step } : null;
    const { name, kind } = engine.target;
    this.post({ type: 'opened', adapter: name, software: kind !== 'gpu', kept });
  }

  private async openEngine(): Promise<Engine> {
    if (this.engine) return this.engine;
    const engine = await createEngine();
    this.engine = engine;
    // Met also when nothing runs that would notice.
    void engine.failed.then((error) => {
      if (this.engine === engine) this.enqueue(() => Promise.reject(error));
    });
    return engine;
  }

  private async decode({ name, pictures, labels, classes }: GivenImages): Promise<ImageSet> {
    if (pictures.length > MOST_PICTURES)
      this.post({
        type: 'note',
        text: `The first ${MOST_PICTURES} of ${pictures.length} pictures are used: a page holds no more.`,
      });
    const bad: string[] = [];
    const set = await pictureSet(pictures.slice(0, MOST_PICTURES), {
      name,
      ...(labels.length > 0 && { labels, classes }),
      maxArea: 200 * 200,
      onBad: (file) => bad.push(file),
      onProgress: (done, total) => this.progress('Reading pictures', done, total),
    });
    if (bad.length > 0) {
      const names = bad.slice(0, 3).join(', ');
      this.post({
        type: 'note',
        text: `${bad.length} files are no pictures that this browser reads and were left out: ${names}${bad.length > 3 ? ' and others' : ''}.`,
      });
    }
    return set;
  }

  private async useSet(set: ImageSet, source: RunFacts['source']): Promise<void> {
    const engine = await this.openEngine();
    await this.end();
    this.set = set;
    this.source = source;
    const info = await thumbnails(set);
    this.post({ type: 'set', set: info }, [info.atlas]);
    this.enter('ready');
    const speed = await measureSpeed(engine);
    const presets = await Promise.all(pagePresets.map((preset) => estimate(preset, set, engine, speed)));
    this.post({ type: 'presets', presets });
  }

  private async start(id: string): Promise<void> {
    const preset = pagePresets.find((one) => one.id === id);
    if (!preset || !this.set) return;
    await this.end();
    const { set, source } = this;
    this.facts = { preset: preset.name, steps: Number(preset.settings['train.steps']), set: set.name, source };
    this.records = [];
    this.post({ type: 'history', points: [], looks: [] });
    await this.begin({ settings: preset.settings });
    try {
      await this.store?.clear();
      if (this.store) await writeFacts(this.store, this.facts);
      if (this.store && source === 'images') await writePictures(this.store, set);
    } catch (error) {
      this.storageTrouble(error);
    }
    await this.look();
    this.enter('training');
  }

  /** Makes the run of this set and enters `preparing`. */
  private async begin(options: Omit<TrainingOptions, 'data'>): Promise<TrainingRun> {
    const engine = await this.openEngine();
    const { set } = this;
    if (!set) throw new Error('no pictures are chosen');
    this.enter('preparing');
    const words = { compile: 'Compiling shaders', 'warm up': 'Trying them out' };
    const run = await engine.train({
      ...options,
      data: set,
      watched: true,
      onProgress: (stage, done, total) => this.progress(words[stage], done, total),
    });
    this.run = run;
    this.looker = new Looker(set);
    this.looked.next = run.step;
    this.kept.at = performance.now();
    return run;
  }

  private async restore(): Promise<void> {
    const stored = (await this.store?.newest()) ?? null;
    const bytes = stored?.bytes ?? this.checkpoint?.bytes;
    const facts = (this.store && (await readFacts(this.store))) ?? this.facts;
    if (!bytes || !facts) {
      const text = this.facts ? 'Nothing was kept before the device was lost: start again.' : 'Nothing is kept.';
      this.enter(this.set ? 'ready' : 'empty');
      return this.post({ type: 'trouble', kind: 'data', text });
    }
    if (!this.set || this.set.name !== facts.set) {
      const set = facts.source === 'shapes' ? builtInSet() : this.store && (await readPictures(this.store));
      if (!set) {
        const text = `The pictures (${facts.set}) could not be kept with the run. Choose the same ones again, then press “Resume”.`;
        return this.post({ type: 'trouble', kind: 'data', text });
      }
      await this.useSet(set, facts.source);
    }
    this.facts = facts;
    if (this.store) this.records = await readMetrics(this.store);
    await this.resumeFrom(bytes);
    this.enter('training');
  }

  private async resumeFrom(bytes: Uint8Array): Promise<void> {
    const run = await this.begin({ checkpoint: bytes });
    this.checkpoint = { step: run.step, bytes };
    this.records = this.records.filter(({ step }) => step <= run.step);
    this.postHistory();
    await this.look();
  }

  private postHistory(): void {
    const points = this.records.filter((record) => 'loss' in record).map(pointOf);
    const looks = this.records.filter((record) => 'knn' in record).map(lookOf);
    this.post({ type: 'history', points, looks });
  }

  /** Some steps, then what is due. */
  private async trainOn(): Promise<void> {
    const { run } = this;
    if (!run) return this.enter('ready');
    this.interrupt = new AbortController();
    const { signal } = this.interrupt;
    const steps = Math.max(1, this.looked.next - run.step);
    await run.run({ steps, signal, onStep: (record) => this.stepped(record) });
    this.report();
    if (run.finished) return this.finish();
    if (run.step >= this.looked.next) await this.look();
    if (this.keepDue()) await this.keep();
  }

  private stepped(record: StepRecord): void {
    const line = metricsLine(record);
    this.records.push(line);
    this.unreported.push(pointOf(line));
    if (performance.now() - this.reportedAt > REPORT_MS) this.report();
    if (this.keepDue()) this.interrupt.abort();
  }

  private report(): void {
    this.reportedAt = performance.now();
    if (this.unreported.length > 0) this.post({ type: 'steps', points: this.unreported });
    this.unreported = [];
  }

  private async finish(): Promise<void> {
    await this.look();
    await this.keep();
    this.enter('finished');
  }

  /** Measures and pictures of the model as it is. */
  private async look(): Promise<void> {
    const { run, looker } = this;
    if (!run || !looker || looker.lookedAt === run.step) return;
    const started = performance.now();
    const { look, evaluation } = await looker.look(run);
    this.looked.seconds = (performance.now() - started) / 1000;
    const { lastRecord } = run;
    if (lastRecord) this.records.push(evaluationLine(lastRecord, evaluation));
    this.post({ type: 'look', look });
    const perStep = lastRecord?.seconds ?? this.looked.seconds;
    this.looked.next = run.step + Math.max(LOOK_STEPS, Math.ceil(this.looked.seconds / SHARE / perStep));
  }

  private keepDue(): boolean {
    return performance.now() - this.kept.at > 1000 * Math.max(KEEP_SECONDS, this.kept.seconds / SHARE);
  }

  /** Writes a checkpoint. A full storage costs words, never the run. */
  private async keep(): Promise<void> {
    const { run } = this;
    if (!run) return;
    const started = performance.now();
    const bytes = await run.checkpoint();
    this.checkpoint = { step: run.step, bytes };
    try {
      if (this.store) {
        await writeMetrics(this.store, this.records);
        await this.store.save(bytes);
        this.kept.failing = false;
        this.post({ type: 'kept', step: run.step });
      }
    } catch (error) {
      this.storageTrouble(error);
    }
    this.kept.at = performance.now();
    this.kept.seconds = (this.kept.at - started) / 1000;
  }

  private storageTrouble(error: unknown): void {
    if (!(error instanceof SopError)) throw error;
    if (this.kept.failing) return;
    this.kept.failing = true;
    this.post({ type: 'trouble', kind: 'storage', text: `${inWords(error)} Training goes on.` });
  }

  private async select(image: number): Promise<void> {
    const encoder = this.run ? await this.run.currentEncoder() : this.opened?.encoder;
    if (!encoder || !this.looker) return;
    this.post({ type: 'selection', selection: await this.looker.select(encoder, image) });
  }

  private async download(what: Download): Promise<void> {
    const step = this.run?.step ?? 0;
    const send = (name: string, bytes: Uint8Array): void =>
      this.post({ type: 'file', name, bytes: bytes as Uint8Array<ArrayBuffer> });
    if (what === 'metrics') send('metrics.jsonl', metricsText(this.records));
    else if (what === 'checkpoint' && this.run) send(`checkpoint-${step}.safetensors`, await this.run.checkpoint());
    else if (this.run) send(`teacher-${step}.safetensors`, await this.run.exportWeights());
    else if (this.opened) send('weights.safetensors', this.opened.bytes);
  }

  private async openFile(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (/\.jsonl$/i.test(name)) {
      this.records = metricsRecords(bytes);
      return this.postHistory();
    }
    const { metadata } = decodeSafetensors(bytes, name);
    if (!this.set) await this.useSet(builtInSet(), 'shapes');
    await this.end();
    if (metadata.has('sop-gpu.checkpoint') && metadata.has('sop-gpu.settings')) {
      this.records = [];
      const steps = Number(
        (JSON.parse(metadata.get('sop-gpu.settings') ?? '{}') as Record<string, unknown>)['train.steps'],
      );
      this.facts = { preset: name, steps, set: this.set?.name ?? '', source: this.source };
      await this.resumeFrom(bytes);
      if (this.store) await writeFacts(this.store, this.facts);
      return this.enter('paused');
    }
    const engine = await this.openEngine();
    const encoder = await engine.encoder(loadWeights(bytes, {}, name));
    this.opened = { encoder, bytes };
    this.looker = new Looker(this.set!);
    const { look } = await this.looker.lookAt(encoder, engine);
    this.post({ type: 'look', look });
    this.enter('looking');
  }

  /** Ends whatever runs, keeping nothing of it on the device. */
  private async end(): Promise<void> {
    await this.run?.destroy();
    this.opened?.encoder.destroy();
    this.run = null;
    this.opened = null;
    this.looker = null;
    this.checkpoint = null;
  }

  private progress(what: string, done: number, total: number): void {
    this.post({ type: 'progress', what, done, total });
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    const steps = this.run?.totalSteps ?? this.facts?.steps ?? 0;
    const step = this.run?.step ?? (phase === 'lost' ? (this.checkpoint?.step ?? 0) : 0);
    this.post({ type: 'phase', phase, step, steps, preset: this.facts?.preset ?? '' });
  }
}

function pointOf(record: MetricsRecord): StepPoint {
  const number = (key: string): number => Number(record[key] ?? Number.NaN);
  const { step } = record;
  return {
    step,
    lossCls: number('loss_cls'),
    lossPatch: number('loss_patch'),
    imagesPerSecond: number('images_per_s'),
  };
}

function lookOf(record: MetricsRecord) {
  const knn = Object.values((record['knn'] ?? {}) as Record<string, number>)[0] ?? null;
  const { step } = record;
  return { step, knn, featureStd: Number(record['feature_std']), effectiveRank: Number(record['effective_rank']) };
}

/** An error of the engine as sentences. */
function inWords({ complaint: { what, where, why, fix } }: SopError): string {
  const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
  return `${sentence(what)} (${where}): ${why}. ${sentence(fix)}.`.replace(/\.\./g, '.');
}
