import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../data/node/files.js';
import { makeFolder } from '../data/node/folders.js';
import type { AdapterDescription } from '../gpu/device.js';
import type { TunedCall } from '../plan/tune.js';
import { cacheFolder } from './cache.js';
import { ownVersion } from './version.js';

/** What `sop-gpu tune` found for one adapter, one driver and one version of this package. */
export interface Tuning {
  readonly adapter: string;
  readonly driver: string;
  readonly engine: string;
  /** By `callKey`. */
  readonly calls: Readonly<Record<string, TunedCall>>;
}

/** Names what a tuning holds for; another driver or version compiles other code and is tuned anew. */
function identity({ vendor, architecture, device, description }: AdapterDescription) {
  const adapter = [vendor, architecture, device].filter(Boolean).join(' ');
  return { adapter, driver: description, engine: ownVersion() };
}

/** The file that a tuning of this adapter is kept in. */
export function tuningFile(description: AdapterDescription): string {
  const words = Object.values(identity(description)).join(' ');
  return join(cacheFolder(), 'tuning', `${words.replace(/[^\w.]+/g, '-')}.json`);
}

/** Variants by `callKey`, as kept for an adapter; none where `SOP_GPU_TUNING=off` asks for the built-in choices. */
export function tunedVariants(description: AdapterDescription): ReadonlyMap<string, string> {
  if (process.env['SOP_GPU_TUNING'] === 'off') return new Map();
  return new Map(Object.entries(readTuning(description).calls).map(([key, { variant }]) => [key, variant]));
}

/** What is kept for an adapter: empty where there is nothing, or something that is no tuning and can be made again. */
export function readTuning(description: AdapterDescription): Tuning {
  const own = identity(description);
  const none = { ...own, calls: {} };
  try {
    const read = JSON.parse(readFileSync(tuningFile(description), 'utf8')) as Partial<Tuning>;
    const same = read.adapter === own.adapter && read.driver === own.driver && read.engine === own.engine;
    const calls = Object.entries(read.calls ?? {}).filter(([, call]) => typeof call?.variant === 'string');
    return same ? { ...own, calls: Object.fromEntries(calls) } : none;
  } catch {
    return none;
  }
}

/** Makes the folder of the file that a tuning is kept in; returns the path of the file. @throws SopError 73 */
export async function makeTuningFolder(description: AdapterDescription): Promise<string> {
  const path = tuningFile(description);
  await makeFolder(dirname(path));
  return path;
}

/** Adds to what is kept for an adapter. @throws SopError 73, 74 */
export async function keepTuning(
  description: AdapterDescription,
  found: ReadonlyMap<string, TunedCall>,
): Promise<void> {
  const path = await makeTuningFolder(description);
  const before = readTuning(description);
  const tuning: Tuning = { ...before, calls: { ...before.calls, ...Object.fromEntries(found) } };
  await writeFileAtomic(path, [new TextEncoder().encode(`${JSON.stringify(tuning, null, 1)}\n`)]);
}
