import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DataSplits } from '../src/data/dataset.js';
import { openDataset } from '../src/data/node/open.js';
import { decodeSafetensors, encodeSafetensors } from '../src/data/safetensors.js';
import { ExitCode } from '../src/errors.js';
import { temporaryFolder, writeTree } from './data-support.js';
import { fuzz } from './fuzz-support.js';

/** Mutated safetensors, IDX and CIFAR files; mutated texts: fuzz.test.ts. */
type Next = (below: number) => number;
type Files = Readonly<Record<string, Buffer>>;

const folder = temporaryFolder();

/** One to three edits: bytes changed, bits flipped, pieces left out, put in, repeated, the end cut off. */
function mutate(bytes: Buffer, pieces: readonly Buffer[], next: Next): Buffer {
  let mutated = Buffer.from(bytes);
  for (let edits = 1 + next(3); edits > 0; edits--) {
    const at = next(mutated.length + 1);
    const [head, tail] = [mutated.subarray(0, at), mutated.subarray(at)];
    const kind = next(7);
    if (kind === 0 && tail.length > 0) mutated[at] = next(256);
    else if (kind === 1 && tail.length > 0) mutated[at]! ^= 1 << next(8);
    else if (kind === 2) mutated = Buffer.concat([head, tail.subarray(next(20))]);
    else if (kind === 3) mutated = Buffer.concat([head, pieces[next(pieces.length)]!, tail]);
    else if (kind === 4) {
      const piece = pieces[next(pieces.length)]!;
      mutated = Buffer.concat([head, piece, tail.subarray(piece.length)]);
    } else if (kind === 5) mutated = Buffer.concat([head, mutated.subarray(next(mutated.length + 1))]);
    else mutated = Buffer.from(head);
  }
  return mutated;
}

/** Like `mutate`, but in the first bytes, which say what follows, as often as anywhere. */
function mutateHead(bytes: Buffer, head: number, pieces: readonly Buffer[], next: Next): Buffer {
  if (next(2)) return mutate(bytes, pieces, next);
  return Buffer.concat([mutate(bytes.subarray(0, head), pieces, next), bytes.subarray(head)]);
}

const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer).swap32();
const texts = (...values: string[]): Buffer[] => values.map((value) => Buffer.from(value, 'latin1'));

const tensors = encodeSafetensors(
  [
    { name: 'w', dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, -0, 1e-38) },
    { name: 'blocks.0.attn.qkv.weight', dtype: 'F16', shape: [5], data: Uint16Array.of(0x3c00, 0xc000, 1, 2, 3) },
    { name: 'u8', dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 255) },
    { name: 'i64', dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) },
    { name: 'none', dtype: 'F32', shape: [0, 4], data: new Float32Array(0) },
  ],
  new Map([
    ['step', '12'],
    ['text', 'a "b"\n\u0000é'],
  ]),
);
const headerPieces = [
  ...texts('{', '}', '[', ']', ',', ':', '"', '\\', '-', '.', 'e9', '\\u0000', '\\ud800', '\xff', '\xef\xbb\xbf'),
  ...texts('99999999999999999999', '9007199254740993', '4294967296', '"__proto__":', '"__metadata__":{', '"F32"', '0'),
  ...texts('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', '"shape":[', '"data_offsets":[', 'null'),
  ...[Buffer.of(0, 0, 0, 0, 0, 0, 0, 0x80), Buffer.of(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), Buffer.alloc(64, '[')],
];

test('mutated safetensors files', () =>
  fuzz({
    what: 'mutated safetensors files',
    few: 2_000,
    exits: [ExitCode.data],
    refused: 0.5,
    draw: (next) => mutateHead(Buffer.from(tensors), 8 + tensors.indexOf(0x7d), headerPieces, next),
    read: (bytes) => {
      for (const { shape, data } of decodeSafetensors(bytes, 'mutated').tensors.values())
        assert.is(
          data.length,
          shape.reduce((product, extent) => product * extent, 1),
        );
    },
    show: (bytes) => JSON.stringify(bytes.toString('latin1')),
  }));

/** Opens a folder with these files as `--data` does, and reads it. */
async function readFolder(name: string, files: Files): Promise<void> {
  const path = join(folder, name);
  rmSync(path, { recursive: true, force: true });
  const { train, test: held }: DataSplits = await openDataset(writeTree(path, files));
  for (const set of held ? [train, held] : [train]) {
    const { pixels, width, height } = set.resident!;
    assert.is(pixels.length, set.count * set.channels * width * height);
    assert.ok(set.count > 0 && (!set.labels || set.labels.length === set.count));
    assert.ok(set.labels?.every((label) => label >= 0 && label < set.classes!.length) ?? true);
    assert.is((await set.read(set.count - 1)).data.length, set.channels * width * height);
  }
}

const showFiles = (files: Files): string =>
  Object.entries(files)
    .map(([name, bytes]) => `${name}: ${bytes.subarray(0, 64).toString('hex')} (${bytes.length} bytes)`)
    .join(', ');

const pixels = (length: number): Buffer => Buffer.from(Uint8Array.from({ length }, (_, i) => i % 251));
const images = Buffer.concat([words(0x803, 5, 4, 3), pixels(60)]);
const labels = Buffer.concat([words(0x801, 5), Buffer.of(0, 1, 2, 1, 0)]);
const idxPieces = [
  ...[0, 1, 5, 60, 255, 0x801, 0x803, 0x804, 0xd03, 2 ** 31, 2 ** 32 - 1].map((value) => words(value)),
  ...[words(65536, 65536, 65536), Buffer.of(0x1f, 0x8b, 8, 0), Buffer.alloc(300)],
];

test('mutated IDX files, plain and packed', () =>
  fuzz<Files>({
    what: 'mutated IDX files',
    few: 1_000,
    exits: [ExitCode.data, ExitCode.noInput],
    refused: 0.5,
    draw: (next) => {
      const ofLabels = next(3) === 0;
      const damage = (bytes: Buffer, head: number): Buffer => mutateHead(bytes, head, idxPieces, next);
      // Packed, the damage is inside or outside.
      const [name, whole, head] = ofLabels
        ? (['train-labels-idx1-ubyte', labels, 8] as const)
        : (['train-images-idx3-ubyte', images, 16] as const);
      const other = ofLabels ? { 'train-images-idx3-ubyte': images } : { 'train-labels-idx1-ubyte': labels };
      const packing = next(4);
      if (packing === 0) return { ...other, [`${name}.gz`]: gzipSync(damage(whole, head), { level: 1 }) };
      if (packing === 1) return { ...other, [`${name}.gz`]: damage(gzipSync(whole, { level: 1 }), 10) };
      return { ...other, [name]: damage(whole, head) };
    },
    read: (files) => readFolder('idx', files),
    show: showFiles,
  }));

const cifarRow = (...labelBytes: number[]): Buffer => Buffer.concat([Buffer.from(labelBytes), pixels(3072)]);
const cifarPieces = [Buffer.of(0), Buffer.of(9), Buffer.of(10), Buffer.of(99, 100), cifarRow(3), Buffer.alloc(3072, 7)];
const namePieces = texts('\n', '\n\n', '\0', '\xff\xfe', 'cat\n', 'a'.repeat(5000));

test('mutated CIFAR files', () =>
  fuzz<Files>({
    what: 'mutated CIFAR files',
    few: 1_000,
    exits: [ExitCode.data, ExitCode.noInput],
    refused: 0.3,
    draw: (next) => {
      const hundred = next(3) === 0;
      const row = (): Buffer => (hundred ? cifarRow(next(20), next(100)) : cifarRow(next(10)));
      const whole = Buffer.concat(Array.from({ length: 1 + next(2) }, row));
      const damaged = mutateHead(whole, 2, cifarPieces, next);
      if (hundred) return { 'train.bin': damaged, 'test.bin': row() };
      const names = mutate(Buffer.from('airplane\nautomobile\nbird\n'), namePieces, next);
      return next(2)
        ? { 'data_batch_1.bin': row(), 'data_batch_2.bin': damaged, 'batches.meta.txt': names }
        : { 'data_batch_1.bin': row(), 'test_batch.bin': damaged };
    },
    read: (files) => readFolder('cifar', files),
    show: showFiles,
  }));

test.run();
