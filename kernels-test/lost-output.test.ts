import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { main } from '../src/cli/main.js';
import { runFolder } from '../src/cli/run-folder.js';
import { temporaryFolder } from './data-support.js';
import { projectFile } from './project.js';
import { greySet, metricsOf, settings } from './tiny-run.js';

/** stdout and stderr that take nothing: a full disk, a terminal or reader that is gone. /dev/full is Linux's full disk. */
const folder = temporaryFolder();
const program = fileURLToPath(projectFile('bin/sop-gpu'));
const there = existsSync('/dev/full');
const skip = (what: string): void => console.log(`NOT RUN: ${what}: there is no /dev/full here`);

/** Runs the command under a shell, stderr in a plain file. */
function run(words: readonly string[], redirection: string): { readonly status: number | null; readonly err: string } {
  const err = join(folder, 'stderr');
  const quoted = [process.execPath, program, ...words].map((word) => `'${word}'`).join(' ');
  const script = `${quoted} 2> '${err}' ${redirection}; code=$?; cat '${err}' >&3; rm -f '${err}'; exit $code`;
  const { status, output } = spawnSync('sh', ['-c', script], {
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
    encoding: 'utf8',
  });
  return { status, err: output[3] ?? '' };
}

test('a full disk under stdout: 74 where the output is the result', () => {
  if (!there) return skip('plan');
  const plan = ['plan', '--preset', 'quickstart', '--set', 'model.depth=1'];
  for (const words of [plan, ['train', '--help'], ['--version']]) {
    const { status, err } = run(words, '> /dev/full');
    assert.is(status, 74, words.join(' '));
    assert.match(err, /^sop-gpu: error: writing failed \(stdout\): no space left on the device \(ENOSPC\); [^\n]+\n$/);
  }
});

test('a full disk under stdout: training goes on with a warning, all is in its log', () => {
  if (!there) return skip('train');
  const [data, out] = [greySet(join(folder, 'grey'), 96), join(folder, 'run')];
  const set = settings.flatMap((setting) => ['--set', setting]);
  const words = ['train', '--data', data, '--out', out, '--steps', '3', '--batch-size', '8', ...set];
  const { status, err } = run(words, '> /dev/full');
  assert.is(status, 0, err);
  assert.match(err, /^sop-gpu: warning: writing failed \(stdout\): no space left [^\n]+; the run goes on, [^\n]+\n$/);
  assert.is(metricsOf(out).stepLines.length, 3);
  assert.ok(existsSync(runFolder(out).exported));
  // Device, limits and folder were in order; the failure behind them has its one line whatever Dawn printed before.
  rmSync(runFolder(out).lastCheckpoint);
  rmSync(runFolder(out).bestCheckpoint);
  const second = run(['train', '--resume', '--out', out], '> /dev/null');
  assert.is(second.status, 66);
  assert.match(second.err, /^sop-gpu: error: no checkpoint [^\n]+\n$/);
});

test('nobody reads stderr: the exit code is the same', () => {
  if (!there) return skip('train');
  const words = `'${process.execPath}' '${program}' train --data '${folder}/missing' --out '${folder}/none'`;
  for (const where of ['2> /dev/full', '2>&-', '2>&- >&-']) {
    assert.is(spawnSync('sh', ['-c', `${words} ${where}`], { stdio: 'ignore' }).status, 66, where);
  }
});

test('a terminal that is closed: the process goes on, and ends with its own exit code', () => {
  const streams = pathToFileURL(fileURLToPath(new URL('../src/cli/standard-streams.js', import.meta.url))).href;
  const script = join(folder, 'outlives.mjs');
  const done = join(folder, 'done');
  writeFileSync(
    script,
    `import { writeFileSync } from 'node:fs';
    import { surviveLostOutput } from ${JSON.stringify(streams)};
    surviveLostOutput(() => undefined);
    process.on('SIGHUP', () => setTimeout(() => {
      console.log('to nobody');
      setTimeout(() => { writeFileSync(${JSON.stringify(done)}, 'done'); process.exitCode = 75; }, 100);
    }, 100));
    const waiting = setTimeout(() => {}, 20_000);
    process.on('SIGHUP', () => clearTimeout(waiting));
    console.log('ready');`,
  );
  // Python has pseudo-terminals, Node has none.
  const python = `
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
while b'ready' not in os.read(terminal, 999): pass
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)`;
  const { status, error } = spawnSync('python3', ['-c', python, process.execPath, script], { stdio: 'inherit' });
  if (error) return console.log(`NOT RUN: a closed terminal: ${error.message}`);
  assert.is(status, 75);
  assert.ok(existsSync(done));
});

test('streams that fail throw nothing', async () => {
  assert.is(await main(['--version']), 0);
  for (const code of ['EIO', 'EPIPE', 'ENOSPC']) {
    for (const stream of [process.stdout, process.stderr])
      stream.emit('error', Object.assign(new Error(code), { code }));
  }
});

test.run();
