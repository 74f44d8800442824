import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { expectTensors } from '../src/data/checkpoint.js';
import {
  checkCheckpoints,
  checkpointPath,
  loadNewestValid,
  removeStaleTemporaries,
  saveCheckpoint,
} from '../src/data/node/checkpoints.js';
import { writeFileAtomic, writeFully, writeNpyFile } from '../src/data/node/files.js';
import { lockFolder, lockName } from '../src/data/node/run-lock.js';
import { decodeSafetensors, encodeSafetensors, type NamedArray } from '../src/data/safetensors.js';
import { ExitCode, SopError } from '../src/errors.js';
import { fails, temporaryFolder, writeTree } from './data-support.js';

const folder = temporaryFolder();
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test('a write that fails leaves the old file and no other', async () => {
  const place = writeTree(join(folder, 'atomic'), { 'a.txt': 'old' });
  const path = join(place, 'a.txt');
  function* breaking(): Iterable<Uint8Array> {
    yield bytes('new');
    throw new RangeError('no more');
  }
  let thrown: unknown;
  await writeFileAtomic(path, breaking()).catch((error: unknown) => {
    thrown = error;
  });
  assert.instance(thrown, RangeError);
  assert.is(readFileSync(path, 'utf8'), 'old');
  assert.equal(readdirSync(place), ['a.txt']);
  await writeFileAtomic(path, [bytes('ne'), new Uint8Array(0), bytes('w')]);
  assert.is(readFileSync(path, 'utf8'), 'new');
  assert.equal(readdirSync(place), ['a.txt']);
});

test('a symbolic link keeps pointing to the file that is replaced', async () => {
  const place = writeTree(join(folder, 'link'), { 'target.txt': 'old' });
  symlinkSync('target.txt', join(place, 'link.txt'));
  await writeFileAtomic(join(place, 'link.txt'), [bytes('new')]);
  assert.is(readlinkSync(join(place, 'link.txt')), 'target.txt');
  assert.is(readFileSync(join(place, 'target.txt'), 'utf8'), 'new');
});

test('short writes are gone on with, a full disk is exit 74, a bad place 73', async () => {
  const written: number[] = [];
  const slow = {
    write: async (buffer: Uint8Array, offset: number, length: number) => {
      const bytesWritten = Math.min(3, length);
      written.push(...buffer.subarray(offset, offset + bytesWritten));
      return { bytesWritten, buffer };
    },
  };
  await writeFully(slow as never, bytes('eleven byte'));
  assert.is(Buffer.from(written).toString(), 'eleven byte');
  if (existsSync('/dev/full')) {
    await fails(() => writeFileAtomic('/dev/full', [bytes('x')]), ExitCode.io, /\/dev\/full/, /ENOSPC/);
    assert.ok(existsSync('/dev/full'));
  }
  writeTree(folder, { file: '' });
  mkdirSync(join(folder, 'sub'));
  await fails(() => writeFileAtomic(join(folder, 'file', 'x'), []), ExitCode.cannotCreate, /ENOTDIR/);
  await fails(() => writeFileAtomic(join(folder, 'missing', 'x'), []), ExitCode.cannotCreate, /ENOENT/);
  await fails(() => writeFileAtomic(join(folder, 'sub'), []), ExitCode.cannotCreate, /it is a folder/);
});

test('a npy file has the header that NumPy writes', async () => {
  const path = join(folder, 'features.npy');
  await writeNpyFile(path, Float32Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
  const file = readFileSync(path);
  assert.is(file.length, 128 + 24);
  assert.is(file.toString('latin1', 0, 10), '\x93NUMPY\x01\x00\x76\x00');
  assert.match(
    file.toString('latin1', 10, 128),
    /^\{'descr': '<f4', 'fortran_order': False, 'shape': \(3, 2\), \} *\n$/,
  );
  assert.is(file.readFloatLE(148), 6);
});

const weights = (value: number): NamedArray[] => [
  { name: 'student.w', dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, 2, value, 4) },
  { name: 'memory.cls_pointer', dtype: 'I32', shape: [1], data: Int32Array.of(5) },
];

test('the newest whole checkpoint is loaded, and what was passed over is said', async () => {
  const run = join(folder, 'run');
  assert.is(await loadNewestValid(run), null);
  await checkCheckpoints(run);
  await saveCheckpoint(run, 'best', 10, weights(3), [['config', 'a: 1']]);
  await saveCheckpoint(run, 'last', 20, weights(4));
  const newest = await loadNewestValid(run);
  assert.is(newest!.name, 'last');
  assert.is(newest!.checkpoint.step, 20);
  assert.equal(newest!.checkpoint.tensors.get('student.w'), weights(4)[0]);
  assert.equal(newest!.notes, []);

  const last = checkpointPath(run, 'last');
  const whole = readFileSync(last);
  const flipped = Buffer.from(whole);
  flipped[flipped.length - 9]! ^= 1;
  for (const damaged of [flipped, whole.subarray(0, -1), Buffer.alloc(0)]) {
    writeFileSync(last, damaged);
    const loaded = await loadNewestValid(run);
    assert.is(loaded!.name, 'best');
    assert.is(loaded!.checkpoint.step, 10);
    assert.is(loaded!.checkpoint.metadata.get('config'), 'a: 1');
    assert.is(loaded!.notes.length, 1);
    assert.match(loaded!.notes[0]!, /last\.safetensors was passed over/);
  }
  await checkCheckpoints(run);
  writeFileSync(checkpointPath(run, 'best'), 'x');
  for (const ask of [loadNewestValid, checkCheckpoints])
    await fails(() => ask(run), ExitCode.data, /last\.safetensors/, /best\.safetensors/);
});

test('values that are not finite are named, newer formats are not passed over', async () => {
  const run = join(folder, 'run2');
  await saveCheckpoint(run, 'best', 10, weights(3));
  await saveCheckpoint(run, 'last', 20, weights(Number.NaN));
  const loaded = await loadNewestValid(run);
  assert.is(loaded!.name, 'best');
  assert.match(loaded!.notes[0]!, /"student\.w" holds NaN at element 2/);
  const newer = encodeSafetensors(weights(1), [
    ['sop-gpu.checkpoint', '2'],
    ['step', '30'],
  ]);
  writeFileSync(checkpointPath(run, 'last'), newer);
  await fails(() => loadNewestValid(run), ExitCode.data, /newer sop-gpu \(format 2/, /update/);
  // A newer program may form its checksums otherwise: that is not damage.
  const otherwise = new Map([...decodeSafetensors(newer).metadata, ['crc32', '00000000']]);
  writeFileSync(checkpointPath(run, 'last'), encodeSafetensors(weights(1), otherwise));
  for (const ask of [loadNewestValid, checkCheckpoints])
    await fails(() => ask(run), ExitCode.data, /newer sop-gpu \(format 2/);
});

test('tensors that are missing, unexpected or of another shape are listed', async () => {
  const got = new Map(weights(1).map((tensor) => [tensor.name, tensor]));
  expectTensors(got, new Map([...got].map(([name, { shape }]) => [name, shape])), 'x');
  const expected = new Map([
    ['student.w', [4]],
    ['student.b', [2]],
  ]);
  const patterns = [
    /missing: "student\.b"/,
    /unexpected: "memory\.cls_pointer"/,
    /"student\.w" \(expected \[4\], got \[2,2\]\)/,
  ];
  await fails(() => expectTensors(got, expected, 'w.safetensors'), ExitCode.data, ...patterns);
});

test('half-written files of killed processes are swept', async () => {
  const run = writeTree(join(folder, 'run3'), {
    'checkpoints/.last.safetensors.123-0.tmp': 'x',
    'checkpoints/last.safetensors': 'x',
    '.metrics.jsonl.9-12.tmp': 'x',
  });
  assert.is((await removeStaleTemporaries(run)).length, 2);
  assert.equal(readdirSync(join(run, 'checkpoints')), ['last.safetensors']);
});

test('a run folder has one user; locks of the dead are taken over', async () => {
  const run = join(folder, 'run4');
  const path = join(run, lockName);
  const lock = await lockFolder(run);
  assert.is(lock.note, null);
  await fails(() => lockFolder(run), ExitCode.cannotCreate, new RegExp(`process ${process.pid} on`));
  lock.release();
  assert.not(existsSync(path));

  // The parent of this process lives, so only its start can tell that the lock is of an earlier one of its number.
  const owner = (pid: number, host: string, started: string | null): string => JSON.stringify({ pid, host, started });
  writeFileSync(path, owner(process.ppid, hostname(), null));
  await fails(() => lockFolder(run), ExitCode.cannotCreate, /wait for it/);
  writeFileSync(path, owner(4, 'another-host', null));
  await fails(() => lockFolder(run), ExitCode.cannotCreate, /another-host/, /remove/);
  const stale = [owner(2 ** 30, hostname(), null), owner(process.pid, hostname(), null)];
  if (existsSync('/proc/self/stat')) stale.push(owner(process.ppid, hostname(), '1'));
  for (const text of stale) {
    writeFileSync(path, text);
    const taken = await lockFolder(run);
    assert.match(taken.note!, /took over the lock of process/);
    taken.release();
    assert.equal(readdirSync(run), []);
  }
  writeFileSync(path, '');
  await fails(() => lockFolder(run), ExitCode.cannotCreate, /another process/);
  for (const hours of [-1, 1]) {
    writeFileSync(path, '');
    const then = new Date(Date.now() + hours * 3_600_000);
    utimesSync(path, then, then);
    const taken = await lockFolder(run);
    assert.is(taken.note, 'took over the lock of a process that was killed');
    taken.release();
  }
  await fails(() => lockFolder(join(folder, 'file', 'run')), ExitCode.cannotCreate);
  mkdirSync(path);
  await fails(() => lockFolder(run), ExitCode.cannotCreate, /its lock cannot be read \(EISDIR\); .*remove/);
});

test('a disk that became read-only keeps the lock, and the error that ended the run stays the one that is told', async () => {
  const disk = join(folder, 'disk');
  mkdirSync(disk);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
  if (mounted.status !== 0)
    return console.log(`NOT RUN: no small file system can be mounted here (${String(mounted.stderr).trim()})`);
  try {
    const lock = await lockFolder(disk);
    execFileSync('mount', ['-o', 'remount,ro', disk]);
    lock.release();
    assert.equal(readdirSync(disk), [lockName]);
    execFileSync('mount', ['-o', 'remount,rw', disk]);
    (await lockFolder(disk)).release();
    assert.equal(readdirSync(disk), []);
  } finally {
    execFileSync('umount', [disk]);
  }
});

test('a named pipe in the place of a checkpoint is passed over, not waited for', async () => {
  if (process.platform === 'win32') return console.log('NOT RUN: there are no named pipes here');
  const run = join(folder, 'run5');
  await saveCheckpoint(run, 'best', 3, [{ name: 'w', dtype: 'F32', shape: [1], data: new Float32Array(1) }]);
  execFileSync('mkfifo', [checkpointPath(run, 'last')]);
  const loaded = await loadNewestValid(run);
  assert.is(loaded?.name, 'best');
  assert.match(loaded?.notes.join() ?? '', /last\.safetensors was passed over: it is a pipe/);
});

test('a state that turns out worth nothing while it is written leaves the old checkpoint, and says so itself', async () => {
  const run = join(folder, 'run6');
  await saveCheckpoint(run, 'last', 1, weights(1));
  const lost = new SopError(ExitCode.tryAgain, { what: 'the device was lost', where: 'a GPU', why: 'w', fix: 'f' });
  const confirm = () => Promise.reject(lost);
  await fails(() => saveCheckpoint(run, 'last', 2, weights(2), [], confirm), ExitCode.tryAgain, /^the device was lost/);
  assert.is((await loadNewestValid(run))?.checkpoint.step, 1);
  assert.equal(readdirSync(join(run, 'checkpoints')), ['last.safetensors']);
});

test.run();
