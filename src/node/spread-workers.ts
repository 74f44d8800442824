import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export interface Thread {
  readonly id: string;
  readonly name: string;
}

/**
 * Gives each of lavapipe's workers a core of its own, on Linux, where it has as many as this process has cores.
 *
 * Lavapipe wakes its workers for every dispatch and gives each an equal share of the workgroups beforehand. A kernel that lets
 * two of them share a core for a while, as some do with threads that sleep often, makes all wait for the slower: a step of the
 * quickstart took 110 to 120 ms in place of 77 for up to half of the time. SwiftShader, whose workers take work as they get
 * through it, gains nothing. Results do not depend on it, and where `taskset` is missing nothing happens.
 */
export function spreadWorkers(): void {
  if (process.platform !== 'linux') return;
  try {
    const cores = allowedCores(readFileSync('/proc/self/status', 'utf8'));
    const workers = lavapipeWorkers(threads());
    if (cores.length < 2 || workers.length !== cores.length) return;
    for (const [i, { id }] of workers.entries()) {
      execFileSync('taskset', ['-p', '-c', String(cores[i]), id], { stdio: 'ignore' });
    }
  } catch {
    // No /proc, no taskset, a thread that has ended: the workers stay where the system puts them.
  }
}

/** The threads of this process in the order in which they were started. */
export function threads(): Thread[] {
  const ids = readdirSync('/proc/self/task').sort((a, b) => Number(a) - Number(b));
  return ids.map((id) => ({ id, name: readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim() }));
}

/** Of the adapter opened last: it names the threads that draw and then starts as many without a name, which run dispatches. */
export function lavapipeWorkers(all: readonly Thread[]): Thread[] {
  const draws = (i: number): boolean => /^llvmpipe-\d+$/.test(all[i]?.name ?? '');
  let end = all.length;
  while (end > 0 && !draws(end - 1)) end--;
  let start = end;
  while (draws(start - 1)) start--;
  return all.slice(end, 2 * end - start);
}

/** `0-3,8` in the line `Cpus_allowed_list` of a process' status is [0, 1, 2, 3, 8]. */
export function allowedCores(status: string): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '';
  return list.split(',').flatMap((range) => {
    const [first = Number.NaN, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}
