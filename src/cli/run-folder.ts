import { closeSync, openSync, writeSync } from 'node:fs';
import { access, constants, readdir, readFile } from 'node:fs/promises';
import { arch, cpus, hostname, platform, release, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { diffConfig, flattenConfig, formatValue } from '../config/keys.js';
import { resolveConfig } from '../config/resolve.js';
import type { Config } from '../config/schema.js';
import { formatConfig, yamlLayer } from '../config/yaml.js';
import { checkpointPath } from '../data/node/checkpoints.js';
import { writeFileAtomic } from '../data/node/files.js';
import { makeFolder } from '../data/node/folders.js';
import { cannotRead, cannotWrite, errorCode } from '../data/node/io-errors.js';
import { ExitCode, SopError } from '../errors.js';
import { oneLine } from './one-line.js';
import { checkCreatable, writeJson } from './output-file.js';

/** Places of the files of a run. */
export interface RunFolder {
  readonly folder: string;
  readonly config: string;
  readonly environment: string;
  readonly metrics: string;
  readonly log: string;
  /** Images that `data.on_bad_image: skip` left out, with the reason; only where there are any. */
  readonly skipped: string;
  readonly checkpoints: string;
  readonly lastCheckpoint: string;
  readonly bestCheckpoint: string;
  readonly exported: string;
}

/** The files of the run in `folder`, whether they exist or not. */
export function runFolder(folder: string): RunFolder {
  return {
    folder,
    config: join(folder, 'config.yaml'),
    environment: join(folder, 'environment.json'),
    metrics: join(folder, 'metrics.jsonl'),
    log: join(folder, 'train.log'),
    skipped: join(folder, 'skipped-images.tsv'),
    checkpoints: join(folder, 'checkpoints'),
    lastCheckpoint: checkpointPath(folder, 'last'),
    bestCheckpoint: checkpointPath(folder, 'best'),
    exported: join(folder, 'export', 'teacher.safetensors'),
  };
}

async function namesIn(folder: string): Promise<readonly string[] | undefined> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw cannotWrite(folder, error, 'create');
  }
}

/** Does the folder hold anything of a run that a new one would overwrite? */
async function holdsRun(run: RunFolder): Promise<boolean> {
  const names = (await namesIn(run.folder)) ?? [];
  if (['config.yaml', 'metrics.jsonl'].some((name) => names.includes(name))) return true;
  const checkpoints = names.includes('checkpoints') ? ((await namesIn(run.checkpoints)) ?? []) : [];
  return checkpoints.some((name) => name.endsWith('.safetensors'));
}

/**
 * Makes the folder of a new run, or checks that of a run to be resumed, before any work is done. Whether another
 * process is using it the lock says (`lockFolder`): take it before this, so that two starts cannot both find it free.
 *
 * @throws SopError 73 where it cannot be made or written, or holds another run; 66 where there is none to resume
 */
export async function prepareRunFolder(folder: string, options: { readonly resume: boolean }): Promise<RunFolder> {
  const run = await checkOccupied(folder, options);
  for (const path of [run.folder, run.checkpoints, join(folder, 'export')]) {
    await makeFolder(path);
  }
  for (const path of [run.config, run.metrics, run.lastCheckpoint, run.exported]) await checkCreatable(path);
  return run;
}

/**
 * As far as can be told without making anything: would `prepareRunFolder` take this folder? Asked before the images are read.
 *
 * @throws SopError 66, 73 as `prepareRunFolder`
 */
export async function checkRunFolder(folder: string, options: { readonly resume: boolean }): Promise<void> {
  await checkOccupied(folder, options);
  for (let at = resolve(folder); ; at = dirname(at)) {
    try {
      await access(at, constants.W_OK | constants.X_OK);
      return;
    } catch (error) {
      if (errorCode(error) !== 'ENOENT' || at === dirname(at)) throw cannotWrite(folder, error, 'create');
    }
  }
}

async function checkOccupied(folder: string, { resume }: { readonly resume: boolean }): Promise<RunFolder> {
  const run = runFolder(folder);
  const occupied = await holdsRun(run);
  if (resume && !occupied) {
    const fix = 'leave --resume out to start one';
    throw new SopError(ExitCode.noInput, { what: 'nothing to resume', where: folder, why: 'it holds no run', fix });
  }
  if (!resume && occupied) {
    const fix = 'go on with it by --resume, or choose another --out';
    const why = 'it holds another run';
    throw new SopError(ExitCode.cannotCreate, { what: 'cannot start a run', where: folder, why, fix });
  }
  return run;
}

/** The configuration that a run was started with. @throws SopError 66 missing, 78 damaged */
export async function readRunConfig(run: RunFolder): Promise<Config> {
  const text = await readFile(run.config, 'utf8').catch((error: unknown) => {
    throw cannotRead(run.config, error, 'give the folder of a run');
  });
  return resolveConfig([yamlLayer(text, run.config)]);
}

/** Writes `config.yaml`. @throws SopError 73, 74 */
export async function writeRunConfig(run: RunFolder, config: Config, command: string): Promise<void> {
  const text = formatConfig(config, ['Resolved configuration of this run, made by', `  ${oneLine(command)}`]);
  await writeFileAtomic(run.config, [new TextEncoder().encode(text)]);
}

/**
 * Keys that change neither the numbers of a run nor their order: a resumed run may have others. Images may be moved: their
 * fingerprint in the checkpoint tells whether they are the same.
 */
const free: ReadonlySet<string> = new Set([
  'data.path',
  'sop.neighbour_search',
  'train.on_nonfinite',
  'train.stop_on_collapse',
  'train.checkpoint_minutes',
  'train.checkpoint_blocks',
  'data.on_bad_image',
  'log.every',
  'eval.every_epochs',
  'eval.k',
]);

/**
 * A resumed run must be the run that was stopped.
 *
 * @throws SopError (78) listing each key with its old and new value
 */
export function checkSameRun(saved: Config, wanted: Config, where: string): void {
  const different = diffConfig(saved, wanted).filter(({ key }) => !free.has(key));
  if (different.length === 0) return;
  const list = different.map(({ key, before, after }) => `${key} was ${formatValue(before)}, is ${formatValue(after)}`);
  throw anotherRun(list, where);
}

/** The settings that define a run, as its checkpoints keep them: by key, in words. */
export function definingSettings(config: Config): [key: string, value: string][] {
  const settings = [...flattenConfig(config)].filter(([key]) => !free.has(key));
  return settings.map(([key, value]) => [`config.${key}`, formatValue(value)]);
}

/**
 * Holds settings against those that a checkpoint was written with: `config.yaml` can be edited. Keys that its program did not
 * know yet say nothing.
 *
 * @throws SopError (78) listing each key with its old and new value
 */
export function checkUnedited(metadata: ReadonlyMap<string, string>, config: Config, where: string): void {
  const list = definingSettings(config).flatMap(([key, value]) => {
    const before = metadata.get(key) ?? value;
    return before === value ? [] : [`${key.slice('config.'.length)} was ${before}, is ${value}`];
  });
  if (list.length > 0) throw anotherRun(list, where);
}

function anotherRun(list: readonly string[], where: string): SopError {
  return new SopError(ExitCode.config, {
    what: 'resume with another configuration',
    where,
    why: list.join(', '),
    fix: 'put these settings back, or start a new run with --init',
  });
}

/** What `environment.json` says of the machine; the caller adds the adapter. */
function hostEnvironment(): Readonly<Record<string, unknown>> {
  const processors = cpus();
  return {
    started: new Date().toISOString(),
    host: hostname(),
    system: `${platform()} ${arch()} ${release()}`,
    processor: processors[0]?.model ?? 'unknown',
    processors: processors.length,
    memory_mib: Math.round(totalmem() / 2 ** 20),
    node: process.versions.node,
  };
}

/** Writes `environment.json`. @param details adapter, driver, versions @throws SopError 73, 74 */
export async function writeEnvironment(run: RunFolder, details: Readonly<Record<string, unknown>>): Promise<void> {
  await writeJson(run.environment, { ...hostEnvironment(), ...details });
}

/** What `writeEnvironment` wrote. @throws SopError 66 missing, 78 damaged */
export async function readEnvironment(run: RunFolder): Promise<Readonly<Record<string, unknown>>> {
  const text = await readFile(run.environment, 'utf8').catch((error: unknown) => {
    throw cannotRead(run.environment, error, 'start a new run');
  });
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    const [what, why, fix] = ['damaged file', 'it is no JSON', 'start a new run'];
    throw new SopError(ExitCode.config, { what, where: run.environment, why, fix });
  }
}

/** `train.log`: each line is in the file when `line` returns; a full disk costs lines of it, never the run. */
export class TrainLog {
  private readonly file: number;

  /** Appends to what a stopped run wrote. @throws SopError 73 */
  constructor(path: string) {
    try {
      this.file = openSync(path, 'a');
    } catch (error) {
      throw cannotWrite(path, error, 'create');
    }
  }

  readonly line = (text: string): void => {
    try {
      writeSync(this.file, `${new Date().toISOString()} ${text}\n`);
    } catch (error) {
      if (errorCode(error) === '') throw error;
    }
  };

  close(): void {
    closeSync(this.file);
  }
}
