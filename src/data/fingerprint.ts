import { crc32, hexCrc } from './crc32.js';
import type { ImageSet } from './dataset.js';
import { bytesOf } from './dtype.js';

/**
 * Tells whether a set is the one that a run began with: 8 hexadecimal digits over numbers, classes, labels, file names
 * and, of sets in memory, every pixel. The name does not count, so that a set may be moved. Pixels of larger sets are
 * not read, which would take as long as an epoch: see `ImageSet.checksum`.
 */
export function fingerprint(set: ImageSet): string {
  const { count, channels, classes, files, labels, resident } = set;
  const size = resident && [resident.width, resident.height];
  let crc = crc32(new TextEncoder().encode(JSON.stringify([count, channels, classes, files, size])));
  if (labels) crc = crc32(bytesOf(labels), crc);
  if (resident) crc = crc32(resident.pixels, crc);
  return hexCrc(crc);
}
