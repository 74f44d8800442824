import { ExitCode, SopError } from '../errors.js';

/** CIFAR-10 rows are label, pixels; CIFAR-100 rows are coarse label, fine label, pixels. The fine label is used. */
export const cifarKinds = {
  'CIFAR-10': { labelBytes: 1, classes: 10 },
  'CIFAR-100': { labelBytes: 2, classes: 100 },
} as const;
export type CifarKind = keyof typeof cifarKinds;

export const cifarSide = 32;
const area = cifarSide * cifarSide;

/** Bytes of one image with its labels. */
function cifarRowBytes(kind: CifarKind): number {
  return cifarKinds[kind].labelBytes + 3 * area;
}

/**
 * One binary file: labels, and the three colour planes of each image woven into u8 [count, 32, 32, 3].
 *
 * @throws SopError 65 if the length is no whole number of images or a label does not exist
 */
export function parseCifar(
  bytes: Uint8Array,
  kind: CifarKind,
  where: string,
): { labels: Int32Array; pixels: Uint8Array } {
  const { labelBytes, classes } = cifarKinds[kind];
  const row = cifarRowBytes(kind);
  const count = Math.floor(bytes.length / row);
  if (count === 0 || count * row !== bytes.length) {
    throw malformedCifar(where, `${bytes.length} bytes are no whole number of ${kind} images (${row} bytes each)`);
  }
  const labels = new Int32Array(count);
  const pixels = new Uint8Array(count * 3 * area);
  for (let image = 0; image < count; image++) {
    const label = bytes[image * row + labelBytes - 1]!;
    if (label >= classes)
      throw malformedCifar(where, `image ${image} has the label ${label}, the largest is ${classes - 1}`);
    labels[image] = label;
    const from = image * row + labelBytes;
    for (let p = 0, to = image * 3 * area; p < area; p++) {
      pixels[to++] = bytes[from + p]!;
      pixels[to++] = bytes[from + area + p]!;
      pixels[to++] = bytes[from + 2 * area + p]!;
    }
  }
  return { labels, pixels };
}

export function malformedCifar(where: string, why: string, fix = 'download it again'): SopError {
  return new SopError(ExitCode.data, { what: 'malformed CIFAR file', where, why, fix });
}
