/**
 * CRC-32 as in zip, gzip and zlib (reflected polynomial 0xedb88320), eight bytes a turn ("slicing by 8"): about ten
 * times the speed of the byte-wise loop, which matters for checkpoints of gigabytes in a browser. Node has its own.
 */
const tables = makeTables();

function makeTables(): Uint32Array {
  const table = new Uint32Array(8 * 256);
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    table[n] = c;
  }
  for (let slice = 1; slice < 8; slice++) {
    for (let n = 0; n < 256; n++) {
      const before = table[(slice - 1) * 256 + n]!;
      table[slice * 256 + n] = (before >>> 8) ^ table[before & 255]!;
    }
  }
  return table;
}

/** The checksum of `bytes`, or of what `previous` covers followed by `bytes`. */
export function crc32(bytes: Uint8Array, previous = 0): number {
  const t = tables;
  let crc = ~previous;
  let i = 0;
  for (; i + 8 <= bytes.length; i += 8) {
    const low = crc ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    crc =
      t[1792 + (low & 255)]! ^
      t[1536 + ((low >>> 8) & 255)]! ^
      t[1280 + ((low >>> 16) & 255)]! ^
      t[1024 + (low >>> 24)]! ^
      t[768 + bytes[i + 4]!]! ^
      t[512 + bytes[i + 5]!]! ^
      t[256 + bytes[i + 6]!]! ^
      t[bytes[i + 7]!]!;
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}

/** A checksum as 8 hexadecimal digits. */
export function hexCrc(crc: number): string {
  return crc.toString(16).padStart(8, '0');
}
