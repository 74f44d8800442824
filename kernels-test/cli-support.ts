import * as assert from 'uvu/assert';
import { main } from '../src/cli/main.js';

/** How a command ended and what it printed. */
export interface CommandRun {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a command in this process and catches what it prints. */
export async function runCommand(...argv: string[]): Promise<CommandRun> {
  const streams = { out: process.stdout, err: process.stderr };
  const text = { out: '', err: '' };
  const originals = { out: streams.out.write, err: streams.err.write };
  for (const name of ['out', 'err'] as const) {
    streams[name].write = (chunk: Uint8Array | string) => {
      text[name] += String(chunk);
      return true;
    };
  }
  try {
    return { code: await main(argv), ...text };
  } finally {
    for (const name of ['out', 'err'] as const) streams[name].write = originals[name];
  }
}

/** Runs a command that must succeed, and returns what it printed on stdout. */
export async function succeeds(...argv: string[]): Promise<string> {
  const { code, out, err } = await runCommand(...argv);
  assert.is(code, 0, `${argv.join(' ')}: ${err}`);
  return out;
}

/** Runs a command that must end with this exit code and one line on stderr that matches every pattern. */
export async function failsWith(code: number, argv: readonly string[], ...patterns: RegExp[]): Promise<void> {
  const { code: got, err } = await runCommand(...argv);
  assert.is(got, code, err);
  assert.match(err, /^sop-gpu: error: [^\n]+ \([^\n]+\): [^\n]+; [^\n]+\n$/);
  for (const pattern of patterns) assert.match(err, pattern);
}
