import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { homeFolder, type PackedFile, unpackedFolder } from './cache.js';

/**
 * What Vulkan is on this Linux machine, found without loading it, and the SwiftShader that npm brings for machines
 * that have none. Two pieces matter: the loader (`libvulkan.so.1`, found by the dynamic linker when the process starts,
 * so only a new process can be given one) and the drivers (ICD files, read anew with every Vulkan instance).
 */

/** Where the driver was unpacked to. */
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
  const home = homeFolder();
  const own = home === undefined ? [] : [join(home, '.local/share')];
  const folders = ['/etc', '/usr/local/etc', ...own, ...data].map((f) => join(f, 'vulkan/icd.d'));
  return [...new Set(folders)].flatMap((folder) =>
    existsSync(folder)
      ? readdirSync(folder).flatMap((file) => (file.endsWith('.json') ? [join(folder, file)] : []))
      : [],
  );
}

/** The regular files of a tar archive, as far as the archives we read need it (short names, no links). */
export function untar(archive: Buffer): PackedFile[] {
  const entries: PackedFile[] = [];
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

/**
 * The SwiftShader of npm `@sparticuz/chromium`, unpacked once per user and version. Undefined where the package is missing or
 * made for another platform, or nothing can be written.
 */
export function prepareSwiftShader(): SwiftShader | undefined {
  const found = chromiumPackage();
  if (!found) return undefined;
  const folder = unpackedFolder(`swiftshader-${found.version}`, () => {
    const archive = join(found.bin, 'swiftshader.tar.br');
    const files = untar(brotliDecompressSync(readFileSync(archive))).filter(({ name }) => wanted.includes(name));
    if (files.length < wanted.length) throw new Error(`${archive} does not hold ${wanted.join(', ')}`);
    return files;
  });
  return folder === undefined ? undefined : { folder, icd: join(folder, 'vk_swiftshader_icd.json') };
}

/** What to set for a new process so that it has a Vulkan loader; undefined where nothing is missing, or can be done. */
export function loaderEnvironment(): Record<string, string> | undefined {
  if (process.platform !== 'linux' || findLoader()) return undefined;
  const swiftShader = prepareSwiftShader();
  if (!swiftShader) return undefined;
  const rest = process.env['LD_LIBRARY_PATH'];
  return { LD_LIBRARY_PATH: rest ? `${swiftShader.folder}${delimiter}${rest}` : swiftShader.folder };
}
