import { join } from 'node:path';
import { writeFileAtomic } from '../data/node/files.js';
import type { Span } from '../gpu/profiler.js';
import { median } from '../numbers.js';
import type { PlannedLaunch } from '../plan/plan.js';
import { dispatchFlops } from '../plan/report.js';
import { timeStep } from '../plan/timing.js';
import type { StepRecord } from '../sop/loop.js';
import type { Trainer } from '../sop/trainer.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import type { StopRequest } from './signals.js';
import { table } from './table.js';

/** Steps that are timed; a dispatch counts with its median. */
const STEPS = 5;
/** Lines of a table. */
const ROWS = 20;

/** A dispatch of the plan, its work by formula and its median time. */
interface Timed {
  readonly launch: PlannedLaunch;
  readonly flops: number;
  readonly span: Span;
  readonly ms: number;
}

/** What is asked of the training's own steps: how long they took, and how many lists of neighbours were searched anew. */
export type OwnStep = Pick<StepRecord, 'seconds' | 'recomputedLists'>;

/**
 * Times every dispatch of some steps after the `done` ones of the training, prints tables by part of the network and by kernel
 * and writes `profile.json`, a trace for chrome://tracing or Perfetto, into the run folder. The steps run on the last batch,
 * with anchors of their own, and are part of no checkpoint. What share of the last of the training's `own` steps the kernels
 * take is told too, and how many lists either searched: the first steps of a run fill them.
 * Returns the path of the trace; null, with nothing printed or written, where a signal came.
 */
export async function profileSteps(
  trainer: Trainer,
  folder: string,
  printer: Printer,
  { own, done }: { readonly own: readonly OwnStep[]; readonly done: number },
  stop: StopRequest,
): Promise<string | null> {
  const profiled = await timeSteps(trainer, printer, done, stop);
  if (profiled === null) return null;
  const { steps, lists } = profiled;
  const { plan } = trainer.training;
  const flops = dispatchFlops(plan);
  const timed = plan.launches.map((launch, i): Timed => {
    const times = steps.map((spans) => spans[i]!.end - spans[i]!.begin);
    return { launch, flops: flops[i]!, span: steps.at(-1)![i]!, ms: median(times) };
  });
  const parts = tableBy('part', ({ node }) => partOf(node.scope), timed);
  const kernels = tableBy('kernel', ({ kernel }) => kernel.label, timed);
  printer.lines([...parts, '', ...kernels]);
  // A finished run that is resumed has no step of its own.
  if (own.length > 0) {
    const last = own.slice(-STEPS);
    const [kernelMs, stepMs] = [timed.reduce((sum, { ms }) => sum + ms, 0), 1000 * median(last.map((s) => s.seconds))];
    const share = ((100 * kernelMs) / stepMs).toFixed(0);
    printer.line(
      `step     ${stepMs.toFixed(1)} ms in the training, the median of its last ${last.length}; the kernels' times add up to ${share} % of it`,
    );
    const searched = last.flatMap(({ recomputedLists }) => recomputedLists ?? []);
    if (searched.length > 0)
      printer.line(`lists    ${median(searched)} searched anew a step there, ${median(lists)} in those timed here`);
  }
  const path = join(folder, 'profile.json');
  await writeFileAtomic(path, [new TextEncoder().encode(JSON.stringify(chromeTrace(timed)))]);
  printer.line(`trace    ${path}`);
  return path;
}

/** The times of all dispatches of `STEPS` steps, and the lists that each searched anew; null where a signal came before. */
async function timeSteps(
  { replay, training: { step } }: Trainer,
  printer: Printer,
  done: number,
  stop: StopRequest,
): Promise<{ readonly steps: Span[][]; readonly lists: number[] } | null> {
  const count = new CountProgress('dispatches timed', printer);
  const steps: Span[][] = [];
  const lists: number[] = [];
  const interrupted = new Error('a signal came');
  const told = (done: number, total: number): void => {
    if (stop.signal !== null) throw interrupted;
    count.update(steps.length * total + done, STEPS * total);
  };
  try {
    while (steps.length < STEPS) {
      // Those drawn before have their lists of neighbours already: a step on the same anchors would search none.
      replay.setScalar(step.scalars.step, done + steps.length + 1);
      steps.push(await timeStep(replay, told));
      const counts = await Promise.all(step.recomputed.map((tensor) => replay.read(tensor)));
      lists.push(counts.reduce((sum, [count = 0]) => sum + count, 0));
    }
    return { steps, lists };
  } catch (error) {
    if (error !== interrupted) throw error;
    return null;
  } finally {
    count.stop();
  }
}

/** `student attn`, `teacher mlp`, `sop.cls`, ...: blocks and layers together; what has no name of its own are the losses. */
function partOf(scope: string): string {
  const network = /^(student|teacher)\.(?:blocks\.\d+\.)?([a-z_]+)/.exec(scope);
  return network ? `${network[1]} ${network[2]}` : scope || 'losses';
}

/** Time of the dispatches with one key, the longest first. */
function tableBy(title: string, keyOf: (launch: PlannedLaunch) => string, timed: readonly Timed[]): string[] {
  const sums = new Map<string, { ms: number; count: number; flops: number }>();
  for (const { launch, flops, ms } of timed) {
    const key = keyOf(launch);
    const sum = sums.get(key) ?? { ms: 0, count: 0, flops: 0 };
    sums.set(key, { ms: sum.ms + ms, count: sum.count + 1, flops: sum.flops + flops });
  }
  const total = timed.reduce((sum, { ms }) => sum + ms, 0);
  const sorted = [...sums].sort(([, a], [, b]) => b.ms - a.ms);
  const rest = sorted
    .slice(ROWS)
    .reduce((sum, [, { ms, count }]) => ({ ms: sum.ms + ms, count: sum.count + count }), { ms: 0, count: 0 });
  const row = (label: string, ms: number, count: number, flops: number): string[] => [
    label,
    ms.toFixed(2),
    ((100 * ms) / total).toFixed(1),
    String(count),
    flops > 0 ? (flops / ms / 1e6).toFixed(2) : '',
  ];
  return table(
    [title, 'ms', '%', 'dispatches', 'GFLOP/s'],
    [
      ...sorted.slice(0, ROWS).map(([label, { ms, count, flops }]) => row(label, ms, count, flops)),
      ...(rest.count > 0 ? [row('others', rest.ms, rest.count, 0)] : []),
      row(
        'one step',
        total,
        timed.length,
        timed.reduce((sum, { flops }) => sum + flops, 0),
      ),
    ],
  );
}

/** Trace events (complete events, microseconds) of the last timed step. */
function chromeTrace(timed: readonly Timed[]): unknown {
  const start = timed[0]?.span.begin ?? 0;
  const traceEvents = timed.map(({ launch, span }) => ({
    name: launch.kernel.label,
    cat: launch.node.scope,
    ph: 'X',
    pid: 1,
    tid: 1,
    ts: 1000 * (span.begin - start),
    dur: 1000 * (span.end - span.begin),
    args: { scope: launch.node.scope, workgroups: launch.workgroups.join(' x ') },
  }));
  return { traceEvents, displayTimeUnit: 'ms' };
}
