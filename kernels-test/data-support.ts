import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';
import * as assert from 'uvu/assert';
import { type ExitCode, SopError } from '../src/errors.js';

/** A folder of this test process, removed when it exits. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sop-gpu-test-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes files given by relative path. */
export function writeTree(folder: string, files: Readonly<Record<string, Uint8Array | string>>): string {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

/** Checks that `run` fails with a SopError of this exit code whose one line matches every pattern. */
export async function fails(run: () => unknown, exitCode: ExitCode, ...patterns: RegExp[]): Promise<void> {
  let caught: unknown;
  try {
    await run();
  } catch (error) {
    caught = error;
  }
  if (!(caught instanceof SopError)) throw caught ?? new Error(`expected exit ${exitCode}, but nothing was thrown`);
  assert.is(caught.exitCode, exitCode, caught.message);
  for (const pattern of patterns) assert.match(caught.message, pattern);
  assert.not.match(caught.message, /\n/);
}

/** An image of pseudo-random pixels (different for each seed), or of one colour. */
export function picture(width: number, height: number, channels: 1 | 3 | 4, seed = 1, colour?: readonly number[]) {
  const next = numbers(seed);
  const pixels = Buffer.from(
    Array.from({ length: width * height * channels }, (_, i) => colour?.[i % channels] ?? next(256)),
  );
  const image = sharp(pixels, { raw: { width, height, channels } });
  return channels === 1 ? image.toColourspace('b-w') : image;
}

/** Whole numbers below a bound, the same for a seed on every machine (xorshift32). */
export function numbers(seed: number): (below: number) => number {
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
