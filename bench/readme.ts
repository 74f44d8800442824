import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digits } from '../src/numbers.js';
import type { Ceiling } from './ceilings.js';
import type { BenchRow } from './kernels.js';
import type { Measured } from './measured.js';

/**
 * Writes the tables of speed from bench/results/*.json, so that no number of them is typed: those of the peers into README
 * between two marks, those of the kernels into bench/results/README.md:
 *
 *   npm run bench:readme
 *
 * `<device>.json` is what `sop-gpu bench --json` wrote there, `<device>-peers.json` what `npm run bench:peers` did.
 */

/** An operation of sop-gpu or of another library; `ratio` is its time over ours. */
interface PeerRow extends Pick<BenchRow, 'op' | 'pass' | 'shape' | 'ms'> {
  readonly peer: string;
  readonly ratio: number;
}

/** Older files do not say when and on what they were measured. */
interface Report<Row> extends Partial<Measured> {
  readonly adapter: string;
  readonly ceiling: Ceiling;
  readonly rows: readonly Row[];
}

const BEGIN = '<!-- bench/results: written by npm run bench:readme -->';
const END = '<!-- end of bench/results -->';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** What the files of results give: the tables of README, and the page of the kernels. */
export function speedTables(folder: string): { readonly peers: string; readonly kernels: string } {
  const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const read = <T>(name: string): T => JSON.parse(readFileSync(join(folder, name), 'utf8')) as T;
  const peers = names.filter((name) => name.endsWith('-peers.json')).map((name) => read<Report<PeerRow>>(name));
  const devices = names.filter((name) => !name.endsWith('-peers.json')).map((name) => read<Report<BenchRow>>(name));
  const together = (parts: readonly string[]): string => parts.join('\n\n');
  return {
    peers: together(merged(peers).map(peerTable)),
    kernels: `${together([KERNELS_HEAD, ...merged(devices).map(kernelTable)])}\n`,
  };
}

const KERNELS_HEAD = `# Kernels

Written by \`npm run bench:readme\` from the files of \`sop-gpu bench --json\` in this folder. Of each op and pass, and form of a
product, the shapes with at least a fifth of the work of the heaviest; of several runs on one machine the newest. "Speed" in
the [README of the project](../../README.md) says on what and how they were measured.`;

/** What belongs to one measurement, which peers share. */
const workOf = ({ op, pass, shape }: Pick<BenchRow, 'op' | 'pass' | 'shape'>): string => `${op} ${pass} ${shape}`;

/** One report for each adapter and processor: each work as the newest run that has it found it. */
function merged<Row extends BenchRow | PeerRow>(reports: readonly Report<Row>[]): Report<Row>[] {
  const device = ({ adapter, cpu }: Report<Row>): string => `${adapter} ${cpu}`;
  return [...new Set(reports.map(device))].map((name) => {
    const runs = reports
      .filter((report) => device(report) === name)
      .sort((a, b) => (a.date ?? '').localeCompare(b.date ?? ''));
    const newest = new Map(runs.flatMap((run) => run.rows.map((row) => [workOf(row), run])));
    const rows = runs.flatMap((run) => run.rows.filter((row) => newest.get(workOf(row)) === run));
    return { ...runs.at(-1)!, rows };
  });
}

/** ` (AMD EPYC, 2 cores; 2026-11-29)`. */
const measuredOn = ({ cpu, cores, date }: Report<unknown>): string =>
  date === undefined ? '' : ` (${cpu}, ${cores} cores; ${date.slice(0, 10)})`;

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const twoDigits = (value: number): string => digits(value, 2);

/** What a training run spends its time on, in the order of the table; the files have every kernel. */
const SHOWN: readonly string[] = [
  ...['matmul', 'attention', 'layernorm', 'softmax', 'gelu', 'sop_probabilities', 'update_adamw'],
  ...['neighbours', 'stale_neighbours', 'update_neighbours_insert'],
  'replay',
];

/** Of the shapes of an op those are shown that have at least this share of the work of the heaviest. */
const LEAST_SHARE = 1 / 5;

/** Of each op and pass, and form of a product, its heavy shapes. */
function kernelTable(report: Report<BenchRow>): string {
  const work = ({ gflops, gbps, ms }: BenchRow): number => (gflops + gbps) * ms;
  const kind = ({ op, pass, shape }: BenchRow): string => `${op} ${pass} ${shape.split(':')[1] ?? ''}`;
  const place = ({ op }: BenchRow): number => SHOWN.indexOf(op);
  const rows = report.rows.filter((each) => place(each) >= 0).sort((a, b) => place(a) - place(b));
  const most = new Map<string, number>();
  for (const each of rows) most.set(kind(each), Math.max(work(each), most.get(kind(each)) ?? 0));
  const { gflops, gbps, dispatch_us } = report.ceiling;
  return [
    `## ${report.adapter}${measuredOn(report)}`,
    '',
    `Ceilings: ${gflops.toFixed(0)} GFLOP/s of multiply-adds, ${gbps.toFixed(1)} GB/s copied, ${dispatch_us.toFixed(0)} us a dispatch.`,
    '',
    row(['kernel', 'pass', 'shape', 'ms', 'GFLOP/s', 'GB/s', '% of its ceiling']),
    row(['---', '---', '---', '---:', '---:', '---:', '---:']),
    ...rows
      .filter((each) => work(each) >= LEAST_SHARE * (most.get(kind(each)) ?? 0))
      .map(({ op, pass, shape, ms, gflops, gbps, percent, bound }) =>
        op === 'replay'
          ? row(['replay', 'JavaScript', `${shape} dispatches`, twoDigits(ms), '', '', ''])
          : row([op, pass, shape, ...[ms, gflops, gbps].map(twoDigits), `${percent.toFixed(0)} (${bound})`]),
      ),
  ].join('\n');
}

/** The order of the works and of those who do them beside us. */
const WORKS: readonly string[] = ['matmul', 'softmax', 'layernorm', 'attention', 'neighbours', 'encoder', 'sop_head'];
const PEERS: readonly string[] = ['plain', 'tfjs', 'jax-js', 'torch', 'ours-dense', 'torch-structured'];

/** How many times our time each peer takes. */
function peerTable(report: Report<PeerRow>): string {
  const { rows } = report;
  const others = PEERS.filter((peer) => rows.some((each) => each.peer === peer));
  const ours = rows.filter(({ peer }) => peer === 'ours').sort((a, b) => WORKS.indexOf(a.op) - WORKS.indexOf(b.op));
  return [
    `**${report.adapter}**${measuredOn(report)}: ours in ms, and how many times that the others take`,
    '',
    row(['work', 'shape', 'ours', ...others]),
    row(['---', '---', ...['ours', ...others].map(() => '---:')]),
    ...ours.map((own) => {
      const ratios = others.map((peer) => {
        const other = rows.find((each) => each.peer === peer && workOf(each) === workOf(own));
        return other ? `${twoDigits(other.ratio)} x` : '';
      });
      return row([`${own.op}, ${own.pass}`, own.shape, twoDigits(own.ms), ...ratios]);
    }),
  ].join('\n');
}

/** README with its tables as the results give them. @throws Error where it lacks the marks */
export function withTables(readme: string, tables: string): string {
  const [begin, end] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`README.md lacks ${BEGIN} and ${END}`);
  return `${readme.slice(0, begin + BEGIN.length)}\n\n${tables}\n\n${readme.slice(end)}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [path, results] = [join(root, 'README.md'), join(root, 'bench/results')];
  const { peers, kernels } = speedTables(results);
  writeFileSync(path, withTables(readFileSync(path, 'utf8'), peers));
  writeFileSync(join(results, 'README.md'), kernels);
}
