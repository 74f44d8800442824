import uPlot from 'uplot';
import { byId, oncePerFrame, themeColour } from './dom.js';
import type { LookPoint, StepPoint } from './protocol.js';

/** Points of a chart at most: beyond that every second one is dropped, again and again. */
const MOST_POINTS = 800;

/** Of images per second, how much of a step goes into the smooth curve. */
const SMOOTHING = 0.1;

/** Distances between two marks of an axis of steps: there is no half step. */
const STEP_MARKS = Array.from({ length: 8 }, (_, digits) => [1, 2, 5].map((n) => n * 10 ** digits)).flat();

/** Step, then a value for each curve; null where there is none. */
type Row = readonly (number | null)[];

interface Curve {
  /** Of page.css. */
  readonly colour: string;
  /** Of measures far apart: each is a point. */
  readonly points?: boolean;
  readonly dashed?: boolean;
}

/** A chart over steps. Redraws at most once a frame. */
class StepChart {
  private plot: uPlot | null = null;
  private rows: Row[] = [];
  private keepEvery = 1;
  private seen = 0;
  private readonly redraw = oncePerFrame(() => this.draw());
  private readonly element: HTMLElement;

  constructor(
    id: string,
    private readonly curves: readonly Curve[],
    private readonly options: { readonly fromZero?: boolean } = {},
  ) {
    this.element = byId(id);
    new ResizeObserver(() => this.redraw()).observe(this.element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.plot?.destroy();
      this.plot = null;
      this.redraw();
    });
  }

  set(rows: readonly Row[]): void {
    this.rows = [];
    this.keepEvery = 1;
    this.seen = 0;
    this.add(rows);
  }

  add(rows: readonly Row[]): void {
    for (const row of rows) {
      if (this.seen++ % this.keepEvery === 0) this.rows.push(row);
      if (this.rows.length <= MOST_POINTS) continue;
      this.rows = this.rows.filter((_, i) => i % 2 === 0);
      this.keepEvery *= 2;
    }
    this.redraw();
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width === 0) return;
    if (this.rows.length === 0) {
      this.plot?.destroy();
      this.plot = null;
      this.element.dataset['empty'] = 'Appears with the first steps';
      return;
    }
    delete this.element.dataset['empty'];
    const columns = Array.from({ length: 1 + this.curves.length }, (_, i) => this.rows.map((row) => row[i] ?? null));
    const data = columns as unknown as uPlot.AlignedData;
    this.plot ??= this.create(width, height, data);
    if (this.plot.width !== width || this.plot.height !== height) this.plot.setSize({ width, height });
    this.plot.setData(data);
  }

  private create(width: number, height: number, data: uPlot.AlignedData): uPlot {
    const axis: uPlot.Axis = {
      stroke: themeColour('quiet'),
      grid: { stroke: themeColour('line'), width: 1 },
      ticks: { show: false },
      font: '12px system-ui, "Open Sans", sans-serif',
    };
    const series = this.curves.map(
      ({ colour, points = false, dashed = false }): uPlot.Series => ({
        stroke: themeColour(colour),
        width: dashed ? 1.5 : 2,
        ...(dashed && { dash: [5, 4] }),
        points: { show: points, size: 6, fill: themeColour(colour) },
      }),
    );
    const range: uPlot.Scale.Range | undefined = this.options.fromZero
      ? (_, least, most) => [Math.min(0, least ?? 0), Math.max(1e-9, (most ?? 1) * 1.1)]
      : undefined;
    return new uPlot(
      {
        width,
        height,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: range ? { range } : {} },
        axes: [
          { ...axis, size: 28, incrs: STEP_MARKS },
          { ...axis, size: 44 },
        ],
        series: [{}, ...series],
        padding: [8, 14, 0, 0],
      },
      data,
      this.element,
    );
  }
}

/** The three charts of the page, and the two figures that stand above them as well. */
export class Charts {
  /** Images per second, smoothed; 0 before the first step. */
  rate = 0;
  /** k-NN accuracy of the untrained model, percent; null where there are no classes or it was not measured. */
  untrained: number | null = null;
  private readonly loss = new StepChart('chart-loss', [{ colour: 'accent' }, { colour: 'second' }]);
  private readonly knn = new StepChart(
    'chart-knn',
    [
      { colour: 'accent', points: true },
      { colour: 'quiet', dashed: true },
    ],
    { fromZero: true },
  );
  private readonly rates = new StepChart('chart-rate', [{ colour: 'accent' }], { fromZero: true });

  history(points: readonly StepPoint[], looks: readonly LookPoint[]): void {
    [this.rate, this.untrained] = [0, null];
    this.loss.set(points.map(lossRow));
    this.rates.set(points.map((point) => this.rateRow(point)));
    this.knn.set(looks.flatMap((look) => this.knnRow(look)));
  }

  steps(points: readonly StepPoint[]): void {
    this.loss.add(points.map(lossRow));
    this.rates.add(points.map((point) => this.rateRow(point)));
  }

  look(look: LookPoint): void {
    this.knn.add(this.knnRow(look));
  }

  private rateRow({ step, imagesPerSecond }: StepPoint): Row {
    const share = this.rate > 0 ? SMOOTHING : 1;
    if (Number.isFinite(imagesPerSecond)) this.rate += share * (imagesPerSecond - this.rate);
    return [step, this.rate];
  }

  private knnRow({ step, knn }: LookPoint): Row[] {
    if (step === 0) this.untrained = knn;
    return knn === null ? [] : [[step, knn, this.untrained]];
  }
}

const lossRow = ({ step, lossCls, lossPatch }: StepPoint): Row => [step, lossCls, lossPatch];
