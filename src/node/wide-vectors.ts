import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { makeWithParents } from '../data/node/folders.js';
import { cacheFolder } from './cache.js';

/** Bits of lavapipe's vectors, 16 lanes and 8; by itself it takes the latter. */
const [WIDE, NARROW] = ['512', '256'];

/** Features of a token from which on a model gains from wide vectors: of the small presets lanes would stay idle. */
const WIDE_FROM = 192;

/**
 * Asks lavapipe for vectors of 512 bits on processors with AVX-512: it is bound by the number of instructions, and wide ones
 * do twice as much. The products of ViT-S take 0.84 of the time, in the median of twelve; a step of the quickstart, whose
 * model is 64 wide, 1.15 of it. For before the first Vulkan instance of a process, which all others follow; what
 * `LP_NATIVE_VECTOR_WIDTH` in the environment says already counts.
 *
 * Mesa keeps what it compiled under a name that does not tell the width, and would run the code for one width as that for
 * another: each width gets a folder of its own, inside the one that `MESA_SHADER_CACHE_DIR` names or among our caches.
 *
 * @param modelWidth features of a token of the model that will be run, where that is known
 */
export function widenVectors(modelWidth = WIDE_FROM): void {
  const { env } = process;
  const fitting = modelWidth < WIDE_FROM ? NARROW : WIDE;
  const width = env['LP_NATIVE_VECTOR_WIDTH'] ?? (widestVectors() ? fitting : undefined);
  if (width === undefined) return;
  const [name, named] = [`lavapipe-${width}`, env['MESA_SHADER_CACHE_DIR']];
  env['LP_NATIVE_VECTOR_WIDTH'] = width;
  if (named && basename(named) === name) return; // by the process that started this one
  const folder = join(named || cacheFolder(), name);
  env['MESA_SHADER_CACHE_DIR'] = folder;
  try {
    makeWithParents(folder, 0o700);
  } catch {
    // Mesa then keeps nothing, which is slower and right.
  }
}

function widestVectors(): boolean {
  if (process.platform !== 'linux' || process.arch !== 'x64') return false;
  try {
    return hasWideVectors(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return false;
  }
}

/** Whether all cores in the text of /proc/cpuinfo have what LLVM needs to compute on 512 bits as it does on 256. */
export function hasWideVectors(cpuinfo: string): boolean {
  const cores = cpuinfo.match(/^flags\s*:.*$/gm) ?? [];
  const needed = ['avx512f', 'avx512dq', 'avx512bw', 'avx512vl'];
  return cores.length > 0 && cores.every((flags) => needed.every((flag) => flags.split(/\s+/).includes(flag)));
}
