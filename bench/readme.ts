import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchReport } from '../src/cli/bench.js';
import type { BenchRow } from './kernels.js';

/**
 * Writes the tables of README's "Speed" from bench/results/*.json, between two marks, so that no number of them is typed:
 *
 *   npm run bench:readme
 *
 * `<device>.json` is what `sop-gpu bench --json` wrote there, `<device>-peers.json` what `npm run bench:peers` did.
 */
interface PeerRow {
  readonly op: string;
  readonly pass: string;
  readonly shape: string;
  readonly peer: string;
  readonly ms: number;
  readonly ratio: number;
}

interface PeerReport {
  readonly adapter: string;
  readonly rows: readonly PeerRow[];
}

const BEGIN = '<!-- bench/results: written by npm run bench:readme -->';
const END = '<!-- end of bench/results -->';

const root = fileURLToPath(new URL('../..', import.meta.url));

/** The part of README that the results give. */
export function speedTables(folder: string): string {
  const names = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const read = <T>(name: string): T => JSON.parse(readFileSync(join(folder, name), 'utf8')) as T;
  const peers = names.filter((name) => name.endsWith('-peers.json')).map((name) => read<PeerReport>(name));
  const devices = names.filter((name) => !name.endsWith('-peers.json')).map((name) => read<BenchReport>(name));
  return [...devices.map(kernelTable), ...peers.map(peerTable)].join('\n\n');
}

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2))));

/** What a training run spends its time on; the files have every kernel. */
const SHOWN = 'matmul attention layernorm softmax gelu sop_probabilities neighbours update_adamw replay'.split(' ');

/** Of each op and pass the shape with the most work. */
function kernelTable({ adapter, ceiling, rows }: BenchReport): string {
  const heaviest = new Map<string, BenchRow>();
  for (const each of rows.filter(({ op }) => SHOWN.includes(op))) {
    const key = `${each.op} ${each.pass} ${each.shape.split(':')[1] ?? ''}`;
    const work = ({ gflops, gbps, ms }: BenchRow): number => (gflops + gbps) * ms;
    const known = heaviest.get(key);
    if (known === undefined || work(each) > work(known)) heaviest.set(key, each);
  }
  const { gflops, gbps, dispatch_us } = ceiling;
  return [
    `**${adapter}**: ${gflops.toFixed(0)} GFLOP/s of multiply-adds, ${gbps.toFixed(1)} GB/s copied, ${dispatch_us.toFixed(0)} us a dispatch`,
    '',
    row(['kernel', 'pass', 'shape', 'ms', 'GFLOP/s', 'GB/s', '% of its ceiling']),
    row(['---', '---', '---', '---:', '---:', '---:', '---:']),
    ...[...heaviest.values()].map(({ op, pass, shape, ms, gflops, gbps, percent, bound }) =>
      op === 'replay'
        ? row(['replay', 'JavaScript', `${shape} dispatches`, digits(ms), '', '', ''])
        : row([op, pass, shape, ...[ms, gflops, gbps].map(digits), `${percent.toFixed(0)} (${bound})`]),
    ),
  ].join('\n');
}

/** How many times our time each peer takes. */
function peerTable({ adapter, rows }: PeerReport): string {
  const others = [...new Set(rows.map(({ peer }) => peer))].filter((peer) => peer !== 'ours');
  const ours = rows.filter(({ peer }) => peer === 'ours');
  return [
    `**${adapter}**, in one run: ours in ms, and how many times that the others take (PyTorch: on the same CPU)`,
    '',
    row(['work', 'shape', 'ours', ...others]),
    row(['---', '---', ...['ours', ...others].map(() => '---:')]),
    ...ours.map((own) => {
      const ratios = others.map((peer) => {
        const other = rows.find(
          (each) => each.peer === peer && each.op === own.op && each.pass === own.pass && each.shape === own.shape,
        );
        return other ? `${digits(other.ratio)} x` : '';
      });
      return row([`${own.op}, ${own.pass}`, own.shape, digits(own.ms), ...ratios]);
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
  const path = join(root, 'README.md');
  writeFileSync(path, withTables(readFileSync(path, 'utf8'), speedTables(join(root, 'bench/results'))));
}
