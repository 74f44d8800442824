import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { cacheFolder } from './cache.js';

/**
 * What Vulkan is on this Linux machine, found without loading it, and the SwiftShader that npm brings for machines
 * that have none. Two pieces matter: the loader (`libvulkan.so.1`, found by the dynamic linker when the process starts,
 * so only a new process can be given one) and the drivers (ICD files, read anew with every Vulkan instance).
 */
export interface SwiftShader {
  /** Holds `libvulkan.so.1`, a loader that finds installed drivers too. */
  readonly folder: string;
  readonly icd: string;
}

/** npm's SwiftShader is built for this alone. */
export const swiftShaderWorksHere = process.platform === 'linux' && process.arch === 'x64';

const loaderName = 'libvulkan.so.1';
const wanted = [loaderName, 'libvk_swiftshader.so', 'vk_swiftshader_icd.json'];

/** The path of the installed Vulkan loader, as the dynamic linker will find it; undefined where there is none. */
export function findLoader(): string | undefined {
  const named = (process.env['LD_LIBRARY_PATH'] ?? '').split(delimiter).filter(Boolean);
  // The linker's cache is a table of strings; it may be stale, so what it names must exist.
  const cache = existsSync('/etc/ld.so.cache') ? readFileSync('/etc/ld.so.cache', 'latin1') : '';
  const cached = cache.match(/\/[^\0]*\/libvulkan\.so\.1(?=\0)/g) ?? [];
  const usual = ['/lib64', '/usr/lib64', '/lib', '/usr/lib'];
  return [...named.map((folder) => join(folder, loaderName)), ...cached, ...usual.map((f) => join(f, loaderName))].find(
    (path) => existsSync(path),
  );
}

/** The driver files that the loader would read now: those named in the environment, or all that are installed. */
export function findDrivers(): string[] {
  const named = process.env['VK_DRIVER_FILES'] || process.env['VK_ICD_FILENAMES'];
  if (named) return named.split(delimiter).filter((path) => existsSync(path));
  const data = (process.env['XDG_DATA_DIRS'] || '/usr/local/share:/usr/share').split(delimiter);
  const folders = ['/etc', '/usr/local/etc', join(homedir(), '.local/share'), ...data].map((f) =>
    join(f, 'vulkan/icd.d'),
  );
  return [...new Set(folders)].flatMap((folder) =>
    existsSync(folder)
      ? readdirSync(folder).flatMap((file) => (file.endsWith('.json') ? [join(folder, file)] : []))
      : [],
  );
}

interface TarEntry {
  readonly name: string;
  readonly content: Buffer;
}

/** The regular files of a tar archive, as far as the archives we read need it (short names, no links). */
export function untar(archive: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  const text = (from: number, length: number) => archive.toString('latin1', from, from + length).replace(/\0.*$/s, '');
  for (let at = 0; at + 512 <= archive.length && archive[at] !== 0; ) {
    const size = Number.parseInt(text(at + 124, 12), 8);
    const isFile = ['', '0'].includes(text(at + 156, 1));
    if (isFile) entries.push({ name: text(at, 100), content: archive.subarray(at + 512, at + 512 + size) });
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return entries;
}

/** The npm package of Chromium, which carries SwiftShader, where it is installed and made for this machine. */
export function chromiumPackage(): { bin: string; version: string } | undefined {
  if (!swiftShaderWorksHere) return undefined;
  try {
    // Its entry is build/cjs/index.cjs: the package hides its package.json and its archives from `exports`.
    const root = dirname(dirname(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium'))));
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    const bin = join(root, 'bin');
    return existsSync(join(bin, 'swiftshader.tar.br')) ? { bin, version } : undefined;
  } catch {
    return undefined; // optional dependency, left out
  }
}

function complete(folder: string): boolean {
  try {
    const sizes = JSON.parse(readFileSync(join(folder, 'sizes.json'), 'utf8')) as Record<string, number>;
    return wanted.every((name) => sizes[name] !== undefined && statSync(join(folder, name)).size === sizes[name]);
  } catch {
    return false;
  }
}

/** Unpacks into a folder of its own and renames it into place: two processes may do so at once, and either wins. */
function unpack(archive: string, folder: string): void {
  const fresh = `${folder}.${process.pid}.${randomBytes(4).toString('hex')}`;
  mkdirSync(fresh, { mode: 0o700 });
  try {
    const sizes: Record<string, number> = {};
    for (const { name, content } of untar(brotliDecompressSync(readFileSync(archive)))) {
      if (!wanted.includes(name)) continue;
      writeFileSync(join(fresh, name), content, { mode: 0o755 });
      sizes[name] = content.length;
    }
    writeFileSync(join(fresh, 'sizes.json'), JSON.stringify(sizes));
    if (!complete(fresh)) throw new Error(`${archive} does not hold ${wanted.join(', ')}`);
    try {
      renameSync(fresh, folder);
    } catch (error) {
      if (complete(folder)) return; // another process was faster
      if (!existsSync(folder)) throw error;
      rmSync(folder, { recursive: true, force: true }); // left half-finished or tampered with
      renameSync(fresh, folder);
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/**
 * The SwiftShader of npm `@sparticuz/chromium`, unpacked once per user and version into the cache folder
 * (`$XDG_CACHE_HOME` or `~/.cache`; the system's temporary folder where that cannot be written).
 * Undefined where the package is missing or made for another platform, or nothing can be written.
 */
export function prepareSwiftShader(): SwiftShader | undefined {
  const found = chromiumPackage();
  if (!found) return undefined;
  // A folder that others can write to is no place to load code from: the fallback carries the user's id and mode 700.
  const fallback = join(tmpdir(), `sop-gpu-${process.getuid?.() ?? 'user'}`);
  for (const base of [cacheFolder(), fallback]) {
    const folder = join(base, `swiftshader-${found.version}`);
    try {
      mkdirSync(base, { recursive: true, mode: 0o700 });
      if (process.getuid && statSync(base).uid !== process.getuid()) continue;
      if (!complete(folder)) unpack(join(found.bin, 'swiftshader.tar.br'), folder);
      return { folder, icd: join(folder, 'vk_swiftshader_icd.json') };
    } catch {} // not writable, or full: the next place
  }
  return undefined;
}

/** What to set for a new process so that it has a Vulkan loader; undefined where nothing is missing, or can be done. */
export function loaderEnvironment(): Record<string, string> | undefined {
  if (process.platform !== 'linux' || findLoader()) return undefined;
  const swiftShader = prepareSwiftShader();
  if (!swiftShader) return undefined;
  const rest = process.env['LD_LIBRARY_PATH'];
  return { LD_LIBRARY_PATH: rest ? `${swiftShader.folder}${delimiter}${rest}` : swiftShader.folder };
}
