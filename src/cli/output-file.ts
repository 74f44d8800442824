import { open, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { writeFileAtomic } from '../data/node/files.js';
import { cannotWrite } from '../data/node/io-errors.js';

/**
 * Fails now, before hours of work, where a result could not be written later. Leaves no file behind.
 *
 * @throws SopError (73) naming the path: a folder of that name, no such folder above it, no permission
 */
export async function checkCreatable(path: string): Promise<void> {
  const existing = await stat(path).catch(() => null);
  if (existing?.isDirectory()) throw cannotWrite(path, Object.assign(new Error(), { code: 'EISDIR' }), 'create');
  // A device or pipe is written directly, and opening it now could block.
  if (existing && !existing.isFile()) return;
  const probe = join(dirname(path), `.${basename(path)}.${process.pid}-probe.tmp`);
  try {
    await (await open(probe, 'wx')).close();
  } catch (error) {
    throw cannotWrite(path, error, 'create');
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

/** A value as JSON: maps become objects; a number that is not finite becomes null, as JSON has none. */
export function toJson(value: unknown, indent?: number): string {
  const plain = (_key: string, value: unknown): unknown => (value instanceof Map ? Object.fromEntries(value) : value);
  return JSON.stringify(value, plain, indent);
}

/** Writes a value as JSON, atomically. @throws SopError 73, 74 */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, [new TextEncoder().encode(`${toJson(value, 2)}\n`)]);
}
