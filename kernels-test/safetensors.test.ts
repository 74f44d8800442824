import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 as nodeCrc32 } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crc32 } from '../src/data/crc32.js';
import { readSafetensorsFile, writeSafetensorsFile } from '../src/data/node/files.js';
import {
  decodeSafetensors,
  encodeSafetensors,
  type NamedArray,
  parseHeader,
  toFloat32,
} from '../src/data/safetensors.js';
import { ExitCode } from '../src/errors.js';
import { fails, numbers, temporaryFolder } from './data-support.js';

const folder = temporaryFolder();

const all: NamedArray[] = [
  { name: 'u8', dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 255) },
  { name: 'blocks.0.attn.qkv.weight', dtype: 'F32', shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, -0, 1e-38) },
  { name: 'i32', dtype: 'I32', shape: [1], data: Int32Array.of(-7) },
  { name: 'u32', dtype: 'U32', shape: [], data: Uint32Array.of(4e9) },
  { name: 'i64', dtype: 'I64', shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) },
  { name: 'f64', dtype: 'F64', shape: [1, 1], data: Float64Array.of(Math.PI) },
  { name: 'f16', dtype: 'F16', shape: [5], data: Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7c00, 0x7bff) },
  { name: 'bf16', dtype: 'BF16', shape: [2], data: Uint16Array.of(0x3f80, 0xc049) },
  { name: 'bool', dtype: 'BOOL', shape: [2], data: Uint8Array.of(0, 1) },
  { name: 'none', dtype: 'F32', shape: [0, 4], data: new Float32Array(0) },
  { name: 'Größe "x"\n', dtype: 'I8', shape: [1], data: Int8Array.of(-1) },
];
const metadata = new Map([
  ['step', '12'],
  ['text', 'a "b"\n\u0000é'],
]);

/** A file with this header and `data` bytes of zeros after it. */
function fileOf(header: string | Uint8Array, data = 0): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

function one(rest: string, name = '"w"'): string {
  return `{${name}:{${rest}}}`;
}
const good = '"dtype":"F32","shape":[2],"data_offsets":[0,8]';

test('what is written is read: every type, in memory and on disk', async () => {
  const path = join(folder, 'all.safetensors');
  await writeSafetensorsFile(path, all, metadata, { crc: true });
  const bytes = encodeSafetensors(all, metadata, { crc: true });
  for (const file of [decodeSafetensors(bytes), await readSafetensorsFile(path)]) {
    assert.is(file.tensors.size, all.length);
    for (const tensor of all) assert.equal(file.tensors.get(tensor.name), tensor);
    for (const [key, value] of metadata) assert.is(file.metadata.get(key), value);
    assert.match(file.metadata.get('crc32.i32')!, /^[0-9a-f]{8}$/);
  }
  const some = await readSafetensorsFile(path, ({ name }) => name === 'f64');
  assert.equal([...some.tensors.keys()], ['f64']);
});

test('equal content gives equal bytes, aligned', async () => {
  const bytes = encodeSafetensors(all, metadata, { crc: true });
  assert.equal(encodeSafetensors([...all].reverse(), [...metadata].reverse(), { crc: true }), bytes);
  const { entries, dataStart } = parseHeader(bytes, bytes.length, 'x');
  assert.is(dataStart % 8, 0);
  for (const { name, begin } of entries) {
    const size = all.find((tensor) => tensor.name === name)!.data.BYTES_PER_ELEMENT;
    assert.is(begin % size, 0, name);
  }
  const path = join(folder, 'same.safetensors');
  await writeSafetensorsFile(path, all, metadata, { crc: true });
  const file = await readSafetensorsFile(path);
  assert.equal(encodeSafetensors(file.tensors.values(), metadata, { crc: true }), bytes);
});

test('16-bit and 64-bit floats widen exactly', async () => {
  const { tensors } = decodeSafetensors(encodeSafetensors(all));
  assert.equal([...toFloat32(tensors.get('f16')!)], [1, -2, 2 ** -24, Infinity, 65504]);
  assert.equal([...toFloat32(tensors.get('bf16')!)], [1, -3.140625]);
  assert.is(toFloat32(tensors.get('f64')!)[0], Math.fround(Math.PI));
  await fails(() => toFloat32(tensors.get('i32')!), ExitCode.data, /i32/, /I32/);
});

test('crc32 is that of zlib', () => {
  const next = numbers(3);
  for (const length of [0, 1, 7, 8, 9, 63, 1000]) {
    const bytes = Uint8Array.from({ length }, () => next(256));
    assert.is(crc32(bytes), nodeCrc32(bytes));
    assert.is(crc32(bytes.subarray(5), crc32(bytes.subarray(0, 5))), nodeCrc32(bytes));
  }
});

test('a flipped bit is found, in data, names, shapes and metadata', async () => {
  const bytes = encodeSafetensors(all, metadata, { crc: true });
  const next = numbers(5);
  for (let i = 0; i < 300; i++) {
    const damaged = bytes.slice();
    const bit = i < 64 ? i : next(bytes.length * 8);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    await fails(() => decodeSafetensors(damaged, `flipped bit ${bit}`), ExitCode.data, /flipped/);
  }
  const { entries, dataStart } = parseHeader(bytes, bytes.length, 'x');
  bytes[dataStart + entries.find(({ name }) => name === 'bf16')!.begin]! ^= 4;
  const path = join(folder, 'flipped.safetensors');
  writeFileSync(path, bytes);
  await fails(() => readSafetensorsFile(path), ExitCode.data, /flipped\.safetensors/, /bf16/, /CRC-32/);
});

const hostile: readonly (readonly [string, Uint8Array, RegExp])[] = [
  ['empty file', new Uint8Array(0), /0 bytes/],
  ['short file', new Uint8Array(7), /7 bytes/],
  ['length 2^63', Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0x80, 0x7b, 0x7d, 0, 0), /9223372036854775808/],
  ['length beyond the file', Uint8Array.of(200, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d), /ends after 10/],
  ['no object', fileOf('[1,2]   '), /"\{"/],
  ['not UTF-8', fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d)), /UTF-8/],
  ['cut off', fileOf('{"w":{"dtype":'), /the end/],
  ['text after it', fileOf(`${one(good)} x`, 8), /goes on/],
  ['duplicate tensor', fileOf(`{"w":{${good}},"w":{${good}}}`, 8), /twice/],
  ['duplicate by escape', fileOf(`{"w":{${good}},"\\u0077":{${good}}}`, 8), /twice/],
  ['duplicate key', fileOf(one(`${good},"dtype":"F32"`), 8), /twice/],
  ['duplicate metadata', fileOf(`{"__metadata__":{"a":"1","a":"2"}}`), /twice/],
  ['__proto__', fileOf(one(good, '"__proto__"'), 8), /__proto__/],
  ['metadata __proto__', fileOf('{"__metadata__":{"__proto__":"1"}}'), /__proto__/],
  ['metadata not text', fileOf('{"__metadata__":{"a":1}} '), /expected '"'/],
  ['overlap', fileOf(`{"a":{${good}},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}`, 8), /"b" overlaps/],
  [
    'hole',
    fileOf(`{"a":{${good}},"b":{"dtype":"U8","shape":[1],"data_offsets":[9,10]}}`, 10),
    /"b" leaves a hole of 1/,
  ],
  ['hole at the start', fileOf(one('"dtype":"U8","shape":[1],"data_offsets":[1,2]'), 2), /hole/],
  ['fraction', fileOf(one('"dtype":"F32","shape":[2],"data_offsets":[0,8.0]'), 8), /whole number.*8\.0/],
  ['exponent', fileOf(one('"dtype":"F32","shape":[2e0],"data_offsets":[0,8]'), 8), /whole number/],
  ['leading zero', fileOf(one('"dtype":"F32","shape":[02],"data_offsets":[0,8]'), 8), /whole number/],
  ['negative', fileOf(one('"dtype":"F32","shape":[2],"data_offsets":[-8,0]'), 8), /whole number.*-8/],
  ['negative shape', fileOf(one('"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]'), 8), /whole number/],
  [
    '2^53',
    fileOf(one('"dtype":"U8","shape":[9007199254740992],"data_offsets":[0,9007199254740992]'), 8),
    /whole number/,
  ],
  ['product overflow', fileOf(one('"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]')), /overflows/],
  ['wrong size', fileOf(one('"dtype":"F32","shape":[3],"data_offsets":[0,8]'), 8), /needs 12 bytes.*give 8/],
  ['reversed offsets', fileOf(one('"dtype":"U8","shape":[0],"data_offsets":[8,0]'), 8), /give -8/],
  ['one offset', fileOf(one('"dtype":"F32","shape":[2],"data_offsets":[8]'), 8), /lacks/],
  ['three offsets', fileOf(one('"dtype":"F32","shape":[2],"data_offsets":[0,8,8]'), 8), /more than 2/],
  ['dimensions', fileOf(one(`"dtype":"U8","shape":[${'1,'.repeat(99)}1],"data_offsets":[0,1]`), 1), /more than 32/],
  ['no shape', fileOf(one('"dtype":"F32","data_offsets":[0,8]'), 8), /lacks/],
  ['unknown key', fileOf(one(`${good},"extra":"1"`), 8), /extra/],
  ['unknown type', fileOf(one('"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]'), 8), /F8_E4M3/],
  ['inherited type', fileOf(one('"dtype":"toString","shape":[8],"data_offsets":[0,8]'), 8), /toString/],
  ['trailing bytes', fileOf(one(good), 9), /8 bytes, but 9/],
  ['data cut off', fileOf(one(good), 7), /8 bytes, but 7/],
  ['bad escape', fileOf('{"\\x":{}}'), /malformed string/],
  ['control character', fileOf('{"a\u0001":{}}'), /malformed string/],
  ['byte order mark', fileOf(`\ufeff${one(good)}`, 8), /"\{"/],
  [
    'pickle',
    Uint8Array.of(0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a),
    /pickle.*safetensors\.torch/,
  ],
  ['zip', Uint8Array.of(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0, 0, 0), /zip.*safetensors\.torch/],
];

test('hostile headers are refused, fast and cheaply, from memory and from disk', async () => {
  const start = performance.now();
  const before = process.memoryUsage().rss;
  for (const [name, bytes, pattern] of hostile) {
    await fails(() => decodeSafetensors(bytes, name), ExitCode.data, pattern, /^malformed/);
    const path = join(folder, 'hostile.safetensors');
    writeFileSync(path, bytes);
    await fails(() => readSafetensorsFile(path), ExitCode.data, pattern, /hostile\.safetensors/);
  }
  assert.ok(performance.now() - start < 5000, 'took too long');
  assert.ok(process.memoryUsage().rss - before < 100e6, 'took too much memory');
});

test('a large malformed header costs little', async () => {
  const start = performance.now();
  const cases = [
    `{"${'a'.repeat(8e6)}`,
    '{"a":{"dtype":"F32","shape":['.padEnd(8e6, '1,'),
    '{'.padEnd(8e6, ' '),
    '{'.repeat(8e6),
  ];
  for (const text of cases) await fails(() => decodeSafetensors(fileOf(text), 'large'), ExitCode.data, /large/);
  assert.ok(performance.now() - start < 4000, 'took too long');
});

test('writing what does not fit together is an internal error', async () => {
  const data = new Float32Array(2);
  const refuse = (tensors: NamedArray[]) => fails(() => encodeSafetensors(tensors), ExitCode.internal);
  await refuse([{ name: 'w', dtype: 'F32', shape: [3], data }]);
  await refuse([{ name: '__metadata__', dtype: 'F32', shape: [2], data }]);
  const w: NamedArray = { name: 'w', dtype: 'F32', shape: [2], data };
  await refuse([w, w]);
});

test.run();
