import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Ends with the one line that every error of this program has. @type {(code: number, text: string) => never} */
export function die(code, text) {
  console.error(`sop-gpu: error: ${text}`);
  process.exit(code);
}

/**
 * The address of a compiled file, for `import`: a path is none where it holds `#` or `%`, or begins with a drive's letter.
 * A checkout whose `dist/` is missing is built first: `npm ci` runs no script of ours.
 * @param {string} file relative to dist/
 */
export function compiled(file) {
  const path = join(root, 'dist', file);
  const { href } = pathToFileURL(path);
  if (existsSync(path)) return href;
  const advice = 'dist/ is missing or incomplete; run `npm ci && npm run build` in the checkout, or install again';
  let typescript;
  try {
    typescript = createRequire(import.meta.url).resolve('typescript/package.json');
  } catch {}
  if (!typescript || !existsSync(join(root, 'tsconfig.json'))) die(70, `not built (dist/${file}): ${advice}`);
  console.error('sop-gpu: building dist/ (first start in this checkout) ...');
  const tsc = [join(dirname(typescript), 'bin', 'tsc'), '-p', join(root, 'tsconfig.json')];
  // The compiler's complaints go to stderr: stdout belongs to the command.
  const { status } = spawnSync(process.execPath, tsc, { stdio: ['ignore', 2, 2] });
  if (status !== 0 || !existsSync(path)) die(70, `the build failed (dist/${file}): see above; ${advice}`);
  return href;
}

/** Does nothing while somebody else handles signals. @type {(code?: number) => void} */
let atStop = () => {};

/**
 * From now on SIGINT and SIGTERM end the program with the exit codes that they have later too, SIGUSR1, which asks a run to
 * save, opens no debugger, and SIGHUP is survived: modules take a while to load.
 */
export function leaveAtSignals() {
  atStop = (code) => process.exit(code);
  process.on('SIGINT', () => atStop(130));
  process.on('SIGTERM', () => atStop(143));
  process.on('SIGUSR1', () => {});
  process.on('SIGHUP', () => {});
}

/** Calls `body`, which handles signals by itself. @param {() => Promise<void>} body */
export async function takingSignals(body) {
  atStop = () => {};
  await body();
  atStop = () => process.exit(); // with the exit code that is set already
}

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'];

/**
 * Runs this same command again with more in its environment, and ends as it ends.
 * @param {Record<string, string>} environment
 */
export function runAgain(environment) {
  // In a session of its own the child gets each signal once, from here; Ctrl-C would else reach it twice. Over the
  // channel it learns of our sudden death (kill -9) and dies with us: see `followLauncher`.
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, ...environment, SOP_GPU_LAUNCHER: String(process.pid) },
    detached: true,
  });
  atStop = () => {};
  for (const signal of forwarded) process.on(signal, () => child.kill(signal));
  process.on('SIGTSTP', () => {
    child.kill('SIGSTOP'); // an orphaned process group ignores SIGTSTP
    process.kill(process.pid, 'SIGSTOP');
  });
  process.on('SIGCONT', () => child.kill('SIGCONT'));
  child.on('error', (error) => die(70, `cannot start node again (${process.execPath}): ${error.message}`));
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 70);
    // It had no time yet to end by them in good order.
    if (signal === 'SIGINT' || signal === 'SIGTERM') process.exit(128 + constants.signals[signal]);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
    // A signal that cannot kill us (blocked, or its core dump takes time) must not read as success.
    setTimeout(() => process.exit(128 + constants.signals[signal]), 1000);
  });
}

/** In the process that `runAgain` started: end with the one that started it, however that ends. */
export function followLauncher() {
  if (!process.channel || process.env.SOP_GPU_LAUNCHER !== String(process.ppid)) return;
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.channel.unref();
}

/**
 * Runs `body` in a process that can load Vulkan. Where this machine has no Vulkan loader, the one in npm's SwiftShader
 * is named to the dynamic linker, which looks only when a process starts: so the command runs once more, as a child.
 * Which adapter is then taken is decided in src/node.ts.
 * @param {() => Promise<void>} body
 */
export async function underVulkan(body) {
  const { loaderEnvironment } = await import(compiled('src/node/vulkan.js'));
  const missing = loaderEnvironment();
  if (missing) return runAgain(missing);
  followLauncher();
  await body();
}
