import { expectTensors, firstNonFinite } from '../data/checkpoint.js';
import type { NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { elements, type RealType, type Tensor } from '../graph/tensor.js';
import { compile } from '../plan/compile.js';
import { type Elements, Replay } from '../plan/replay.js';
import { initialMemory, initialWeights } from './initialize.js';
import { elementsFor, isOptional, readEntries, type StateEntry, stateEntries } from './state.js';
import { type StepValues, setStepValues, type Write } from './step-inputs.js';
import { fetchedTensors, type StepResult, stepResult } from './step-result.js';
import type { Training } from './training.js';

/** Loss, a gradient or a weight is not finite (exit 70). */
export class NonFiniteError extends SopError {
  /**
   * @param values of the step that met it
   * @param written false where the step changed nothing: the state is the one before it
   * @param precision of the step: numbers that are large for f16 may be none in f32
   */
  constructor(
    readonly tensor: string,
    readonly values: StepValues,
    readonly written: boolean,
    precision: RealType = 'f32',
  ) {
    super(ExitCode.internal, {
      what: 'training met a number that is not finite',
      where: `${tensor}, step ${values.step}`,
      why: written ? 'NaN or infinity in the updated weights' : 'NaN or infinity; nothing of this step was written',
      fix: `start again from the last checkpoint (--init) with a lower optim.lr${precision === 'f16' ? ' or --precision f32' : ''}, or check the images`,
    });
  }
}

/** How far making a trainer is. */
export type SetupProgress = (stage: 'compile' | 'warm up', done: number, total: number) => void;

/** A training run on a device: its state, and the step that changes it. Browser-safe. */
export class Trainer {
  /** All that a step changes, as files name it. */
  readonly entries: readonly StateEntry[];
  private readonly seed: number;

  private constructor(
    readonly training: Training,
    /** The compiled step; what runs it apart from `step` changes the state all the same. */
    readonly replay: Replay,
    /** What each run of `replay` resolves with. */
    private readonly fetched: readonly Tensor[],
  ) {
    this.entries = stateEntries(training.step, training.shape.network);
    this.seed = training.config.train.seed;
    const { scalars } = training.step;
    replay.setScalar(scalars.seed, this.seed);
    replay.setScalar(scalars.studentTemp, training.config.sop.student_temp);
  }

  /**
   * Compiles the step and gives it its first state, a function of `train.seed` alone.
   * @throws SopError 69 when the device has not enough memory, 70 when a shader does not compile, 75 when the device is lost
   */
  static async create(gpu: Gpu, training: Training, progress?: SetupProgress): Promise<Trainer> {
    const compiled = await compile(gpu, training.plan, (done, total) => progress?.('compile', done, total));
    const fetched = fetchedTensors(training.step);
    const replay = new Replay(compiled, fetched);
    try {
      await replay.warmUp((done, total) => progress?.('warm up', done, total));
      const trainer = new Trainer(training, replay, fetched);
      trainer.initialize();
      return trainer;
    } catch (error) {
      replay.destroy(); // nobody else could
      throw error;
    }
  }

  /** Writes constant inputs, such as the pixels of a set that stays on the device. */
  write([tensor, data]: Write): void {
    this.replay.write(tensor, data);
  }

  /** Resolves when `step` may be called: a few steps may be in flight. */
  ready(): Promise<void> {
    return this.replay.ready();
  }

  /**
   * Starts one step. Resolves when the device has done it; further steps may be started before.
   * @throws NonFiniteError (70) when loss or gradients are not finite, naming the first bad tensor: the device has then
   * written nothing of that step, and writes nothing of those in flight behind it. With `tolerate` such a step resolves,
   * and the next one changes the state again. Weights that are not finite are an error either way.
   * @throws SopError 70 for a GPU error, 75 for a device that is lost or hangs
   */
  step(writes: readonly Write[], values: StepValues, tolerate = false): Promise<StepResult> {
    const { scalars, flag } = this.training.step;
    if (tolerate) this.replay.write(flag, new Uint32Array(1));
    for (const write of writes) this.write(write);
    setStepValues(this.replay, scalars, values);
    return this.result(this.replay.run(), values, tolerate);
  }

  /** The whole state, as files name it. Waits for the steps in flight. */
  save(): Promise<NamedArray[]> {
    return readEntries(this.replay, this.entries);
  }

  /**
   * Replaces the state; `where` names the file of the tensors.
   * @throws SopError 65 listing tensors that are missing, unexpected or of another shape
   */
  load(tensors: ReadonlyMap<string, NamedArray>, where: string): void {
    // Lists of neighbours and the scale may be missing, or there and not needed: another adapter searches in full or lacks f16.
    const given = new Map([...tensors].filter(([name]) => !isOptional(name)));
    const needed = this.entries.filter(({ optional }) => !optional);
    expectTensors(given, new Map(needed.map(({ name, shape }) => [name, shape])), where);
    // An update that is not finite reaches the room between the tensors of a pack, too.
    for (const { parameters, moment1, moment2 } of this.training.step.packs) {
      for (const { flat } of [parameters, moment1, moment2]) this.replay.write(flat, new Float32Array(elements(flat)));
    }
    for (const entry of this.entries) {
      const array = tensors.get(entry.name);
      this.replay.write(entry.tensor, array ? elementsFor(entry, array, where) : this.first(entry));
    }
    this.replay.write(this.training.step.flag, new Uint32Array(1));
  }

  /** Gives student and teacher these first weights, by timm's name; others keep theirs. */
  begin(weights: ReadonlyMap<string, Float32Array>): void {
    for (const { name, tensor } of this.entries) {
      const values = weights.get(name.replace(/^(student|teacher)\./, ''));
      if (values && /^(student|teacher)\./.test(name)) this.replay.write(tensor, values as Float32Array<ArrayBuffer>);
    }
  }

  /** Current weights of the teacher by timm's name. */
  teacherWeights(): Promise<NamedArray[]> {
    const prefix = 'teacher.';
    const entries = this.entries.filter(({ name }) => name.startsWith(prefix));
    return readEntries(
      this.replay,
      entries.map((entry) => ({ ...entry, name: entry.name.slice(prefix.length) })),
    );
  }

  /** Contents of a tensor of the step, after it: state, inputs, and what a watched training keeps. */
  read(tensor: Tensor): Promise<Elements> {
    return this.replay.read(tensor);
  }

  /** Resolves when the device has nothing left to do. */
  settled(): Promise<void> {
    return this.replay.settled();
  }

  /** Frees everything on the device. */
  destroy(): void {
    this.replay.destroy();
  }

  private initialize(): void {
    const { shape, step } = this.training;
    const weights = initialWeights(shape.network, this.seed);
    for (const entry of this.entries) {
      const [network, ...rest] = entry.name.split('.');
      const known = network === 'student' || network === 'teacher' ? weights.get(rest.join('.')) : undefined;
      this.replay.write(entry.tensor, known ?? this.first(entry));
    }
    this.replay.write(step.flag, new Uint32Array(1));
    const width = shape.network.head.out;
    this.replay.write(step.memory.cls.rows, initialMemory(shape.cls.memory, width, this.seed, 0));
    this.replay.write(step.memory.patch.rows, initialMemory(shape.patch.memory, width, this.seed, 1));
  }

  /** What an entry holds when a run begins, where that is no random number. */
  private first(entry: StateEntry): Elements {
    const { tensor } = entry;
    const { step, config } = this.training;
    if (tensor === step.lossScale?.scale) return Float32Array.of(config.train.loss_scale);
    return tensor.dtype === 'f32' ? new Float32Array(elements(entry)) : new Uint32Array(elements(entry));
  }

  private async result(running: Promise<Elements[]>, values: StepValues, tolerate: boolean): Promise<StepResult> {
    const { step, shape } = this.training;
    const data = await running;
    const fetched = new Map(this.fetched.map((tensor, i) => [tensor, data[i]!]));
    const result = stepResult(step, fetched);
    if (result.skipped !== null && !tolerate) throw new NonFiniteError(result.skipped, values, false, shape.precision);
    // By their bits, as on the device: the sum of squares of a weight that is not finite is none either.
    const written = step.norms.findIndex((pair) => firstNonFinite(fetched.get(pair) as Float32Array) >= 0);
    if (written >= 0) throw new NonFiniteError(await this.badWeight(written), values, true, shape.precision);
    return result;
  }

  private async badWeight(pack: number): Promise<string> {
    for (const tensor of this.training.step.packs[pack]?.parameters.members ?? []) {
      if (firstNonFinite((await this.replay.read(tensor)) as Float32Array) >= 0) return `weights ${tensor.label}`;
    }
    return 'norm of the weights';
  }
}
