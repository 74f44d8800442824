import * as assert from 'uvu/assert';
import { runCommand } from './run-command.js';

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
