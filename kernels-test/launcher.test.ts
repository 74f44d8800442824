import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

// The compiled test lies in dist/kernels-test.
const launcher = pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'launch.js'));
const folder = mkdtempSync(join(tmpdir(), 'sop-gpu-launcher-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

/** Starts a program that runs itself once more, as on a machine without a Vulkan loader, and then does `body`. */
function start(body: string): ChildProcess {
  const file = join(folder, 'program.mjs');
  const head = `import { followLauncher, runAgain } from ${JSON.stringify(launcher.href)};`;
  writeFileSync(file, `${head} if (process.env.AGAIN) { followLauncher(); ${body} } else runAgain({ AGAIN: 'yes' });`);
  const { NODE_CHANNEL_FD: _, ...env } = process.env;
  return spawn(process.execPath, [file, 'one argument'], { stdio: ['ignore', 'pipe', 'inherit'], env });
}

async function firstLine(child: ChildProcess): Promise<string> {
  const [chunk] = (await once(child.stdout!, 'data')) as [Buffer];
  return chunk.toString('utf8').trim();
}

test('a package whose path means something else in an address starts', () => {
  const strange = join(folder, '50%41 #1');
  mkdirSync(join(strange, 'bin'), { recursive: true });
  mkdirSync(join(strange, 'dist'));
  copyFileSync(launcher, join(strange, 'bin', 'launch.js'));
  writeFileSync(join(strange, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(strange, 'dist', 'there.js'), "console.log('started');");
  const program = join(strange, 'bin', 'program.js');
  writeFileSync(program, "import { compiled } from './launch.js'; await import(compiled('there.js'));");
  const { stdout, stderr } = spawnSync(process.execPath, [program], { encoding: 'utf8' });
  assert.equal([stdout, stderr], ['started\n', '']);
});

test('arguments, output and exit code pass through', async () => {
  const child = start('console.log(process.argv[2]); process.exitCode = 78;');
  const exit = once(child, 'exit');
  assert.is(await firstLine(child), 'one argument');
  assert.equal(await exit, [78, null]);
});

test('a signal that ends the child ends the launcher', async () => {
  assert.equal(await once(start("process.kill(process.pid, 'SIGKILL'); setInterval(() => {}, 1000);"), 'exit'), [
    null,
    'SIGKILL',
  ]);
});

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'] as const) {
  test(`${signal} reaches the child, once, and the child decides`, async () => {
    const child = start(`
      let count = 0;
      process.on('${signal}', () => { if (count++ === 0) setTimeout(() => process.exit(100 + count), 100); });
      console.log('ready');
      setInterval(() => {}, 1000);`);
    const exit = once(child, 'exit');
    await firstLine(child);
    child.kill(signal);
    assert.equal(await exit, [101, null]);
  });
}

test('the child does not outlive a killed launcher', async () => {
  const child = start('console.log(process.pid); setInterval(() => {}, 1000);');
  await firstLine(child);
  const closed = once(child.stdout!, 'close'); // the grandchild holds the other end until it is gone
  child.kill('SIGKILL');
  const late = setTimeout(() => assert.unreachable('still alive after 10 s'), 10_000);
  await closed;
  clearTimeout(late);
});

test('what a driver prints is kept out of pipes, files and sockets; nothing of ours is lost or written over', () => {
  const module = pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), '..', 'src', 'node', 'driver-chatter.js'));
  const script = join(folder, 'chatter.mjs');
  const noise = 'Warning: maxDynamicBuffers artificially reduced from 9 to 1.\\n - While looking\\n';
  writeFileSync(
    script,
    `import { writeSync } from 'node:fs';
    import { silenceDrivers, withoutChatter } from ${JSON.stringify(module.href)};
    silenceDrivers();
    console.error('first');
    withoutChatter(() => writeSync(2, '${noise}${noise}'));
    console.error('second');
    console.log('third');
    withoutChatter(() => undefined);`,
  );
  const run = (redirection: string, program = `"${process.execPath}" "${script}"`): string => {
    const file = join(folder, 'stderr');
    rmSync(file, { force: true });
    const command = `(echo before >&2; ${program}; echo after >&2) ${redirection.replace('FILE', file)}`;
    const { stdout } = spawnSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
    return redirection.includes('FILE') ? readFileSync(file, 'utf8') : stdout;
  };
  const quiet = process.platform === 'linux' ? '' : JSON.parse(`"${noise}${noise}"`);
  const expected = (third: string): string => `before\nfirst\n${quiet}second\n${third}after\n`;
  assert.is(run('2>&1 >/dev/null | cat'), expected(''));
  assert.is(run('>/dev/null 2>> FILE'), expected(''));
  // One place in the file for all who write to it: the shell, stdout, and we.
  assert.is(run('>/dev/null 2> FILE'), expected(''));
  assert.is(run('> FILE 2>&1'), expected('third\n'));
  // What Node calls a pipe is a socket. The shell that goes on has it too.
  const command = `echo before >&2; "${process.execPath}" "${script}"; echo after >&2`;
  const { stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] });
  assert.is(stderr, expected(''));
  // A pipe that may not be opened anew, as in a container that runs as another user than the one who started it.
  const other = process.getuid?.() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] : ['env'];
  chmodSync(folder, 0o755);
  const [name = '', ...rest] = [...other, process.execPath];
  if (spawnSync(name, [...rest, '--check', script]).status !== 0)
    return console.log(`NOT RUN: a pipe of another user: there is no ${name}, or Node is not everybody's`);
  const locked = `chmod 0 /proc/self/fd/2; ${other.join(' ')} "${process.execPath}" "${script}"`;
  assert.is(run(`2>&1 >/dev/null | cat`, locked), expected(''));
});

test.run();
