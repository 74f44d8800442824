import uPlot from 'uplot';
import { byId, oncePerFrame, themeColour } from './dom.js';
import type { LookPoint, StepPoint } from './protocol.js';

/** Points of a chart at most: beyond that every second one is dropped, again and again. */
const MOST_POINTS = 800;

/** A chart over steps. Redraws at most once a frame. */
class StepChart {
  private plot: uPlot | null = null;
  private rows: number[][] = [];
  private keepEvery = 1;
  private seen = 0;
  private readonly redraw = oncePerFrame(() => this.draw());
  private readonly element: HTMLElement;

  constructor(
    id: string,
    private readonly colours: readonly string[],
    private readonly options: { readonly points?: boolean; readonly fromZero?: boolean } = {},
  ) {
    this.element = byId(id);
    new ResizeObserver(() => this.redraw()).observe(this.element);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.plot?.destroy();
      this.plot = null;
      this.redraw();
    });
  }

  set(rows: readonly (readonly number[])[]): void {
    this.rows = [];
    this.keepEvery = 1;
    this.seen = 0;
    this.add(rows);
  }

  add(rows: readonly (readonly number[])[]): void {
    for (const row of rows) {
      if (this.seen++ % this.keepEvery === 0) this.rows.push([...row]);
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
    const columns = Array.from({ length: 1 + this.colours.length }, (_, i) => this.rows.map((row) => row[i] ?? null));
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
    const series = this.colours.map(
      (name): uPlot.Series => ({
        stroke: themeColour(name),
        width: 2,
        points: { show: this.options.points ?? false, size: 6, fill: themeColour(name) },
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
          { ...axis, size: 28 },
          { ...axis, size: 44 },
        ],
        series: [{}, ...series],
        padding: [8, 8, 0, 0],
      },
      data,
      this.element,
    );
  }
}

/** The three charts of the page. */
export class Charts {
  private readonly loss = new StepChart('chart-loss', ['accent', 'second']);
  private readonly knn = new StepChart('chart-knn', ['accent'], { points: true });
  private readonly rate = new StepChart('chart-rate', ['accent'], { fromZero: true });

  history(points: readonly StepPoint[], looks: readonly LookPoint[]): void {
    this.loss.set(points.map(lossRow));
    this.rate.set(points.map(rateRow));
    this.knn.set(looks.flatMap(knnRow));
  }

  steps(points: readonly StepPoint[]): void {
    this.loss.add(points.map(lossRow));
    this.rate.add(points.map(rateRow));
  }

  look(look: LookPoint): void {
    this.knn.add(knnRow(look));
  }
}

const lossRow = ({ step, lossCls, lossPatch }: StepPoint): number[] => [step, lossCls, lossPatch];
const rateRow = ({ step, imagesPerSecond }: StepPoint): number[] => [step, imagesPerSecond];
const knnRow = ({ step, knn }: LookPoint): number[][] => (knn === null ? [] : [[step, knn]]);
