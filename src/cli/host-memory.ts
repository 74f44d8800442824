import { readFileSync } from 'node:fs';
import { freemem, platform } from 'node:os';

/**
 * Bytes that a program can still use. On Linux what the kernel calls available (free, and caches it would give up), within
 * the limit of the container; elsewhere what is free.
 */
export function availableMemory(): number {
  const system = platform() === 'linux' ? linuxAvailable() : freemem();
  const limit = process.constrainedMemory();
  // A limit that is not one comes back as 0 or as a number beyond all memory.
  return limit > 0 && limit < system ? limit : system;
}

function linuxAvailable(): number {
  try {
    const [, kibibytes] = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
    return kibibytes === undefined ? freemem() : 1024 * Number(kibibytes);
  } catch {
    return freemem();
  }
}
