import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './launch.js';

/**
 * Names of the test files that match, without `.test.ts`. Listed by source: a compiled test whose source is gone is no test.
 * @param {readonly string[]} patterns parts of names; all files where there is none
 */
export function testFiles(patterns) {
  return readdirSync(join(root, 'kernels-test'))
    .filter((file) => file.endsWith('.test.ts'))
    .filter((file) => patterns.length === 0 || patterns.some((pattern) => file.includes(pattern)))
    .map((file) => file.slice(0, -'.test.ts'.length));
}

/**
 * Runs a compiled test file in a process of its own.
 * @param {string} name
 * @param {{ environment: NodeJS.ProcessEnv, minutes: number, onMessage?: (message: unknown) => void, stop?: AbortSignal }} options
 * @returns {Promise<{ passed: number, failed: number, skipped: number, notRun: string[], seconds: number, trouble: string }>}
 * notRun: what its tests could not do here, as they say it (`NOT RUN: ...`); trouble: what it printed and how it ended,
 * where it did not pass
 */
export async function runTestFile(name, options) {
  const path = join(root, 'dist', 'kernels-test', `${name}.test.js`);
  const start = performance.now();
  const { output, ended } = existsSync(path)
    ? await runFile(path, options)
    : { output: '', ended: 'not built: run `npm run build`' };
  const seconds = (performance.now() - start) / 1000;
  const total = count(output, 'Total');
  const passed = count(output, 'Passed') ?? 0;
  const skipped = count(output, 'Skipped') ?? 0;
  // A file that dies after its last test, or before its first, must not pass for want of failed tests.
  const failed = Math.max((total ?? 0) - passed, ended || !total ? 1 : 0); // uvu's total leaves the skipped ones out
  const trouble = failed ? `${output.trimEnd()}\n${total ? '' : 'No summary of tests. '}${ended}` : '';
  const notRun = [...output.matchAll(/NOT RUN: (.*)$/gm)].map(([, what]) => what);
  return { passed, failed, skipped, notRun, seconds, trouble };
}

/** @returns {Promise<{output: string, ended: string}>} ended: '' for exit code 0, else how it ended */
function runFile(path, { environment, minutes, onMessage, stop }) {
  const { FORCE_COLOR: _, ...inherited } = process.env;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', path], {
      cwd: root,
      env: { ...inherited, NO_COLOR: '1', SOP_GPU_TUNING: 'off', ...environment },
      stdio: ['ignore', 'pipe', 'pipe', ...(onMessage ? ['ipc'] : [])],
      timeout: minutes * 60_000,
      killSignal: 'SIGKILL',
      signal: stop,
    });
    child.on('error', () => undefined); // that it was stopped, `close` tells too
    if (onMessage) child.on('message', onMessage);
    const chunks = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
    child.on('close', (code, signal) => {
      // Dawn says this of every software adapter; it concerns dynamic offsets, which we do not use.
      const output = Buffer.concat(chunks)
        .toString('utf8')
        .replace(/^Warning: maxDynamic.* artificially .*\n/gm, '');
      resolve({ output, ended: signal ? `ended by ${signal}` : code ? `exit code ${code}` : '' });
    });
  });
}

function count(output, label) {
  const found = output.match(new RegExp(`^ *${label}: +(\\d+)`, 'm'));
  return found ? Number(found[1]) : undefined;
}
