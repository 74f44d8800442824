import { type BenchCase, modelCases, opsNamed, REPLAY, shapedCases, shapesHelp, showShape } from '../../bench/cases.js';
import { type Ceiling, measureCeiling } from '../../bench/ceilings.js';
import { type BenchRow, benchKernel, isRight } from '../../bench/kernels.js';
import { type Measured, measuredNow } from '../../bench/measured.js';
import { benchReplay } from '../../bench/replay.js';
import { writeFileAtomic } from '../data/node/files.js';
import { ExitCode, SopError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import type { Target } from '../gpu/target.js';
import { GraphError } from '../graph/op.js';
import { digits } from '../numbers.js';
import { noHalf, precisionOn } from '../sop/setup.js';
import type { Outcome } from './command.js';
import { openDevice } from './open-device.js';
import type { CommonOptions } from './options.js';
import { checkCreatable } from './output-file.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import type { StopRequest } from './signals.js';
import { table } from './table.js';

export interface BenchFlags {
  readonly shape: readonly string[];
  readonly markdown: string | undefined;
  readonly precision: 'f32' | 'f16' | undefined;
}

/** What `--json` holds. */
export interface BenchReport extends Measured {
  readonly adapter: string;
  readonly ceiling: Ceiling;
  readonly rows: readonly BenchRow[];
}

/**
 * `sop-gpu bench`: the device's ceilings, then every op, forward and backward, checked and timed.
 * @throws SopError 64 for an op or shape that is none, 69 for a shape that the adapter cannot hold
 */
export async function benchCommand(
  operands: readonly string[],
  { shape, markdown, precision }: BenchFlags,
  common: CommonOptions,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const tests = opsNamed(operands);
  const asked = shape.flatMap((text) => shapedCases(tests, text));
  const withReplay = operands.includes(REPLAY) || (operands.length === 0 && asked.length === 0);
  if (markdown !== undefined) await checkCreatable(markdown);
  const gpu = await openDevice(common, stop);
  try {
    printer.line(`adapter  ${gpu.target.name}`);
    const half = precisionOn(gpu.target, precision ?? 'f32') === 'f16';
    if (precision === 'f16' && !half) printer.warn(noHalf(gpu.target));
    const cases = (asked.length > 0 ? asked : await modelCases(tests, gpu.target)).map(
      (one): BenchCase => ({ ...one, half: half && one.test.op.halves !== undefined }),
    );
    const ceiling = await progressing('loops and copies for the ceilings', printer, (update) =>
      measureCeiling(gpu, update),
    );
    printer.lines(ceilingLines(ceiling));
    const note = asked.length === 0 && lanesNote(gpu.target);
    if (note) printer.line(note);
    const rows = await progressing('shapes', printer, async (update) => {
      const all: BenchRow[] = [];
      for (const [done, benchCase] of cases.entries()) {
        update(done, cases.length);
        all.push(...(await benchOrExplain(gpu, benchCase, ceiling)));
      }
      if (withReplay) all.push(await benchReplay(gpu, ceiling));
      return all;
    });
    printer.lines(table(HEAD, rows.map(cells)));
    const report: BenchReport = { adapter: gpu.target.name, ...measuredNow(), ceiling, rows };
    if (markdown !== undefined) {
      await writeFileAtomic(markdown, [new TextEncoder().encode(`${markdownLines(report).join('\n')}\n`)]);
    }
    return { result: report, failure: wrongRows(rows) };
  } finally {
    await gpu.close();
  }
}

async function progressing<T>(
  noun: string,
  printer: Printer,
  body: (update: (done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  const progress = new CountProgress(noun, printer);
  try {
    return await body((done, total) => progress.update(done, total));
  } finally {
    progress.stop();
  }
}

/** What an op says of a shape that it refuses is meant for model code; here it is the command line that asked. */
async function benchOrExplain(gpu: Gpu, benchCase: BenchCase, ceiling: Ceiling): Promise<BenchRow[]> {
  try {
    return await benchKernel(gpu, benchCase, ceiling);
  } catch (error) {
    const refused = error instanceof SopError && error.exitCode === ExitCode.unavailable;
    const impossible = error instanceof GraphError || error instanceof RangeError;
    if (!refused && !impossible) throw error;
    const { test } = benchCase;
    throw new SopError(
      refused ? ExitCode.unavailable : ExitCode.usage,
      {
        what: `${test.op.name} cannot be benched at this shape`,
        where: `--shape ${showShape(benchCase)}`,
        why: error instanceof SopError ? error.complaint.why : error.message,
        fix: `ask for another; its numbers are ${test.bench.dims.join(' x ')}`,
      },
      { cause: error },
    );
  }
}

function wrongRows(rows: readonly BenchRow[]): Outcome['failure'] {
  const wrong = rows.filter((row) => !isRight(row));
  if (wrong.length === 0) return undefined;
  const names = wrong.map(({ op, pass, shape }) => `${op} ${pass} ${shape}`).join(', ');
  const why = 'further from the float64 reference than rounding explains';
  return { exitCode: ExitCode.internal, message: `wrong results (${names}): ${why}; run sop-gpu doctor` };
}

function ceilingLines({ gflops, gbps, dispatch_us, loop, copies }: Ceiling): string[] {
  const others = copies.map((copy) => `${copy.gbps.toFixed(1)} for ${copy.bytes / 2 ** 20} MiB`);
  return [
    `ceiling  ${gflops.toFixed(1)} GFLOP/s of multiply-adds (${loop}), ${gbps.toFixed(1)} GB/s copied, ${dispatch_us.toFixed(1)} us a dispatch`,
    `         GB/s of copies by what they move: ${others.join(', ')}`,
  ];
}

/** Lanes of lavapipe are those of a whole process, so the shapes of a narrow model are benched on those of a wide one. */
export function lanesNote({ kind, subgroupSize }: Target): string | undefined {
  if (kind !== 'lavapipe' || subgroupSize <= 8) return undefined;
  return `lanes    ${subgroupSize}, as vit-s has them; the quickstart trains on 8: LP_NATIVE_VECTOR_WIDTH=256 benches its shapes so`;
}

const HEAD = ['op', 'pass', 'shape', 'ms', 'min', 'max', 'GFLOP/s', 'GB/s', '%', 'of', 'error', 'variant'];

function cells(row: BenchRow): string[] {
  const { op, pass, shape, variant, ms, ms_min, ms_max, gflops, gbps, percent, bound, error } = row;
  const numbers = [ms, ms_min, ms_max, gflops, gbps].map((value) => digits(value));
  const deviation = isRight(row) ? error.toExponential(1) : `WRONG ${error.toExponential(1)}`;
  return [op, pass, shape, ...numbers, percent.toFixed(0), bound, deviation, variant];
}

/** The report as a table in Markdown. */
function markdownLines({ adapter, ceiling, rows }: BenchReport): string[] {
  const line = (texts: readonly string[]): string => `| ${texts.join(' | ')} |`;
  return [
    `${adapter}: ${ceiling.gflops.toFixed(1)} GFLOP/s, ${ceiling.gbps.toFixed(1)} GB/s, ${ceiling.dispatch_us.toFixed(1)} us a dispatch.`,
    '',
    line(HEAD),
    line(HEAD.map((_, i) => (i > 2 && i < 9 ? '---:' : '---'))),
    ...rows.map((row) => line(cells(row))),
  ];
}

/** The part of `bench --help` that says what the numbers of a shape are. */
export function benchHelp(): string {
  const rows = shapesHelp().map(([op, dims]) => [op, dims]);
  const lines = table(['op', '--shape (with ? may be left out)'], rows);
  return `\nWithout --shape: the shapes of a training step of ViT-S at batch 16 and of the quickstart.\n\n${lines.join('\n')}\n`;
}
