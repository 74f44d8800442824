import { main } from '../src/cli/main.js';

/** How a command ended, and what it printed. */
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
