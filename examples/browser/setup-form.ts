import { byId, make } from './dom.js';
import type { Download, Phase, PresetEstimate } from './protocol.js';

/** The controls at the left: what can be pressed in which phase. */
export interface SetupActions {
  start(preset: string): void;
  /** Opens a lost device again. */
  restore(): void;
  pause(): void;
  goOn(): void;
  stop(): void;
  save(what: Download): void;
}

const inPhase: Readonly<Record<Phase, string>> = {
  empty: '',
  ready: 'Ready to start.',
  preparing: 'Preparing …',
  training: 'Training.',
  paused: 'Paused.',
  finished: 'Finished.',
  looking: 'These are opened weights. Start trains a new model.',
  lost: 'The graphics device was lost.',
};

export class SetupForm {
  private readonly start = byId<HTMLButtonElement>('start');
  private readonly pause = byId<HTMLButtonElement>('pause');
  private readonly stop = byId<HTMLButtonElement>('stop');
  private readonly bar = byId<HTMLProgressElement>('progress');
  private readonly status = byId('phase');
  private phase: Phase = 'empty';

  constructor(actions: SetupActions) {
    byId<HTMLFormElement>('setup').addEventListener('submit', (event) => event.preventDefault());
    this.start.addEventListener('click', () =>
      this.phase === 'lost' ? actions.restore() : actions.start(this.preset() ?? ''),
    );
    this.pause.addEventListener('click', () => (this.phase === 'paused' ? actions.goOn() : actions.pause()));
    this.stop.addEventListener('click', () => actions.stop());
    for (const what of ['weights', 'metrics', 'checkpoint'] as const)
      byId(`save-${what}`).addEventListener('click', () => actions.save(what));
  }

  showPresets(presets: readonly PresetEstimate[]): void {
    const before = this.preset();
    const fits = presets.filter(({ unfit }) => unfit === null);
    // The largest that finishes within ten minutes here, else the smallest.
    const quick = fits.filter(({ steps, batch, imagesPerSecond }) => (batch * steps) / imagesPerSecond < 600);
    const chosen = fits.find(({ id }) => id === before) ?? quick.at(-1) ?? fits[0];
    const form = byId<HTMLFieldSetElement>('presets');
    form.disabled = false;
    form.replaceChildren(make('legend', {}, 'Size'), ...presets.map((preset) => choice(preset, preset === chosen)));
    this.refresh();
  }

  show(phase: Phase, step: number, steps: number): void {
    this.phase = phase;
    this.status.textContent = phase === 'finished' && step < steps ? 'Stopped.' : inPhase[phase];
    this.progress(step, steps);
    this.refresh();
  }

  /** Steps done. */
  progress(step: number, steps: number): void {
    this.bar.hidden = !(steps > 0) || ['empty', 'ready', 'looking'].includes(this.phase);
    if (!this.bar.hidden) this.bar.value = step / steps;
  }

  /** Something that takes a while. */
  busy(what: string, done: number, total: number): void {
    this.status.textContent = done < total ? `${what}: ${done} of ${total}` : 'Nearly there …';
    this.bar.hidden = false;
    this.bar.value = done / Math.max(1, total);
  }

  private preset(): string | undefined {
    return document.querySelector<HTMLInputElement>('input[name="preset"]:checked')?.value;
  }

  private refresh(): void {
    const { phase } = this;
    const running = phase === 'training' || phase === 'paused';
    const startable = ['ready', 'finished', 'looking'].includes(phase);
    this.start.hidden = running;
    this.start.disabled = phase !== 'lost' && (!startable || this.preset() === undefined);
    this.start.textContent = phase === 'lost' ? 'Go on' : 'Start';
    this.pause.hidden = !running;
    this.pause.textContent = phase === 'paused' ? 'Resume' : 'Pause';
    this.pause.className = phase === 'paused' ? 'main' : '';
    this.stop.hidden = !running;
    byId<HTMLFieldSetElement>('presets').disabled = !startable || this.preset() === undefined;
    const model = running || phase === 'finished';
    byId<HTMLButtonElement>('save-weights').disabled = !model && phase !== 'looking';
    byId<HTMLButtonElement>('save-metrics').disabled = !model;
    byId<HTMLButtonElement>('save-checkpoint').disabled = !model;
  }
}

function choice(
  { id, name, note, pixels, parameters, memory, imagesPerSecond, unfit }: PresetEstimate,
  checked: boolean,
) {
  const input = make('input', { type: 'radio', name: 'preset', value: id, checked, disabled: unfit !== null });
  const facts = unfit
    ? `does not fit here: ${unfit}`
    : `${short(parameters)} parameters, ${short(memory, 2 ** 20)} MiB`;
  const speed = make('span', { className: 'quiet' }, unfit ? '' : `≈ ${short(imagesPerSecond)} images/s`);
  const label = make('label', { className: 'choice', title: note }, input, name, speed);
  label.append(make('span', { className: 'quiet facts' }, `${pixels} px, ${facts}`));
  return label;
}

/** Two significant digits, with k or M: `85 k`, `1.2 M`, `240`. */
function short(value: number, unit = 1): string {
  const scaled = value / unit;
  if (scaled >= 1e6) return `${Number((scaled / 1e6).toPrecision(2))} M`;
  if (scaled >= 1e4) return `${Math.round(scaled / 1e3)} k`;
  return scaled >= 10 ? String(Math.round(scaled)) : String(Number(scaled.toPrecision(2)));
}
