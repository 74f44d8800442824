import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import pc from 'picocolors';
import { ExitCode, SopError } from '../errors.js';
import { type AdapterDescription, describeAdapter, openGpu, targetOf } from '../gpu/device.js';
import { type SelfTest, selfTest } from '../gpu/self-test.js';
import { defaultTarget, type Target } from '../gpu/target.js';
import { mesaCommand, swiftShaderCommand } from '../node/advice.js';
import { findDrivers, findLoader, swiftShaderWorksHere } from '../node/vulkan.js';
import { type ChosenAdapter, chooseAdapter, listAdapters } from '../node.js';
import type { Outcome } from './command.js';
import { failAtSignal } from './open-device.js';
import type { CommonOptions } from './options.js';
import type { Printer } from './printer.js';
import type { StopRequest } from './signals.js';

interface DoctorAdapter {
  readonly name: string;
  /** Where the driver comes from: the system, or npm's SwiftShader. */
  readonly origin: 'installed' | 'npm';
  readonly chosen: boolean;
  readonly target: Target;
  readonly description: AdapterDescription;
}

/** Something that is not there, what it would be good for, and the command that gets it. */
interface Missing {
  readonly what: string;
  readonly command: string;
}

interface DoctorReport {
  readonly system: string;
  /** Package name -> version, or undefined where it is not installed. */
  readonly packages: Readonly<Record<string, string | undefined>>;
  /** Linux only: the Vulkan loader's path and the driver files it reads. */
  readonly vulkan: { readonly loader: string | undefined; readonly drivers: readonly string[] } | undefined;
  readonly adapters: readonly DoctorAdapter[];
  /** Why the chosen adapter was chosen, or why there is none. */
  readonly choice: string;
  /** Of the chosen adapter; empty where there is none. */
  readonly selfTest: readonly SelfTest[];
  readonly missing: readonly Missing[];
  /** 0; 69 where no adapter can be used; 70 where the self-test found wrong results. */
  readonly exitCode: number;
}

const packages = ['sop-gpu', 'webgpu', '@sparticuz/chromium', 'sharp'];

/** From the package's own package.json, which some allow to be asked for and others only to be found above their entry. */
function packageVersion(name: string): string | undefined {
  const require = createRequire(import.meta.url);
  for (const entry of [`${name}/package.json`, name]) {
    try {
      for (let folder = dirname(require.resolve(entry)); folder !== dirname(folder); folder = dirname(folder)) {
        const file = join(folder, 'package.json');
        const found = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>) : {};
        if (found['name'] === name) return found['version'];
      }
    } catch {} // hidden, or not installed
  }
  return undefined;
}

/** Installed versions of this package and of those that compute or decode for it. */
export function packageVersions(): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(packages.map((name) => [name, packageVersion(name)]));
}

async function missingThings(adapters: readonly DoctorAdapter[]): Promise<Missing[]> {
  const missing: Missing[] = [];
  const kinds = adapters.map((one) => one.target.kind);
  // A backend forced on Dawn (DAWNNODE_BACKEND) hides what is there.
  if (process.platform === 'linux' && !process.env['DAWNNODE_BACKEND']) {
    const nvidia = existsSync('/dev/nvidiactl');
    if (nvidia && !kinds.includes('gpu')) {
      const command =
        "install the package of NVIDIA's driver that holds Vulkan; containers: NVIDIA_DRIVER_CAPABILITIES=all";
      missing.push({ what: 'Vulkan for the NVIDIA GPU that is present', command });
    }
    if (!kinds.includes('gpu') && !kinds.includes('lavapipe')) {
      const old = findDrivers().some((path) => path.includes('lvp_icd'));
      const which = old ? 'a newer lavapipe (the installed one cannot be used)' : 'lavapipe';
      missing.push({ what: `${which}, a CPU adapter 4 to 10 times as fast as SwiftShader`, command: mesaCommand() });
    }
    if (swiftShaderWorksHere && !kinds.includes('swiftshader')) {
      missing.push({ what: 'SwiftShader, the CPU adapter that needs no installation', command: swiftShaderCommand() });
    }
  }
  // Installed is not enough: its native part is an optional dependency of it, per platform.
  const decoder = await import('sharp').then(() => true).catch(() => false);
  if (!decoder) missing.push({ what: 'sharp, which decodes images', command: 'npm install --include=optional sharp' });
  return missing;
}

/**
 * `sop-gpu doctor`: finds out what this machine can compute on and whether it computes right. Opens the adapter that a run
 * would open.
 */
export async function doctorCommand(
  { adapter }: Pick<CommonOptions, 'adapter'>,
  printer: Printer,
  stop: StopRequest,
): Promise<Outcome> {
  const report = await examine(adapter, failAtSignal(stop));
  printer.lines(reportLines(report));
  const wrong = report.selfTest.filter((test) => !test.ok).map((test) => test.name);
  const tests = `self-test failed (${wrong.join(', ')}): wrong results; choose another adapter with --adapter`;
  const message = wrong.length > 0 ? tests : report.choice;
  return { result: report, failure: report.exitCode === 0 ? undefined : { exitCode: report.exitCode, message } };
}

/**
 * Throws nothing for a missing or bad adapter: that is in the report, and in its exit code.
 *
 * @param asked as `--adapter`
 */
async function examine(asked: string | undefined, signal: AbortSignal): Promise<DoctorReport> {
  let chosen: ChosenAdapter | undefined;
  let choice: string;
  try {
    chosen = await chooseAdapter(asked);
    choice = chosen.reason;
  } catch (error) {
    if (!(error instanceof SopError)) throw error;
    choice = error.message;
  }
  const adapters = (await listAdapters()).map(({ name, adapter, bundled }): DoctorAdapter => {
    const description = describeAdapter(adapter);
    const same = chosen?.bundled === bundled && chosen.adapter.info.device === description.device;
    return {
      name,
      origin: bundled ? 'npm' : 'installed',
      chosen: same && chosen?.adapter.info.description === description.description,
      target: targetOf(adapter),
      description,
    };
  });
  let results: SelfTest[] = [];
  let exitCode: number = chosen ? 0 : ExitCode.unavailable;
  if (chosen) {
    try {
      const gpu = await openGpu(chosen.adapter, { signal });
      results = await selfTest(gpu).finally(() => gpu.close());
      if (results.some((result) => !result.ok)) exitCode = ExitCode.internal;
    } catch (error) {
      if (!(error instanceof SopError)) throw error;
      choice = error.message;
      exitCode = error.exitCode;
    }
  }
  return {
    system: `${process.platform} ${process.arch}, Node ${process.versions.node}`,
    packages: packageVersions(),
    vulkan: process.platform === 'linux' ? { loader: findLoader(), drivers: findDrivers() } : undefined,
    adapters,
    choice,
    selfTest: results,
    missing: await missingThings(adapters),
    exitCode,
  };
}

const bytes = (count: number) => (count < 1 << 20 ? `${count / 1024} KiB` : `${Math.round(count / (1 << 20))} MiB`);

/** The limits that decide what fits, each beside the default that every adapter has. */
function limitLines(target: Target): string[] {
  const rows: [string, keyof Target, (value: number) => string][] = [
    ['storage buffers per kernel', 'maxStorageBuffers', String],
    ['largest binding', 'maxBindingBytes', bytes],
    ['largest buffer', 'maxBufferBytes', bytes],
    ['invocations per workgroup', 'maxInvocations', String],
    ['shared memory', 'sharedBytes', bytes],
    ['workgroups per dimension', 'maxWorkgroupsPerDimension', String],
  ];
  return rows.map(([label, key, show]) => {
    const [value, standard] = [show(Number(target[key])), show(Number(defaultTarget[key]))];
    return `    ${label.padEnd(28)}${value.padEnd(12)}${value === standard ? 'the default' : `default ${standard}`}`;
  });
}

function adapterLines({ name, origin, chosen, target, description }: DoctorAdapter): string[] {
  const used = { subgroups: target.subgroupSize > 0, 'shader-f16': target.f16, 'timestamp-query': target.timestamps };
  const features = Object.entries(used).map(([feature, has]) => `${feature} ${has ? 'yes' : 'no'}`);
  return [
    `  ${chosen ? pc.green('*') : ' '} ${pc.bold(name)}`,
    `    ${'kind'.padEnd(28)}${target.kind === 'gpu' ? 'GPU' : `software (${target.kind})`}, ${origin === 'npm' ? 'from npm' : 'installed'}`,
    `    ${'driver'.padEnd(28)}${description.description || 'does not say'}`,
    `    ${'subgroup size'.padEnd(28)}${target.subgroupSize || 'not one fixed number'}`,
    `    ${'features'.padEnd(28)}${features.join(', ')}`,
    ...limitLines(target),
  ];
}

/** A report for people. */
function reportLines(report: DoctorReport): string[] {
  const { system, packages, vulkan, adapters, choice, selfTest, missing } = report;
  const versions = Object.entries(packages).map(
    ([name, version]) => `${name} ${version ?? pc.yellow('not installed')}`,
  );
  const lines = [`${pc.bold('System')}  ${system}`, `${pc.bold('Packages')}  ${versions.join(', ')}`];
  if (vulkan) {
    const drivers = vulkan.drivers.length ? vulkan.drivers.join(', ') : 'none installed';
    lines.push(`${pc.bold('Vulkan')}  loader: ${vulkan.loader ?? 'none'}; drivers: ${drivers}`);
  }
  lines.push('', pc.bold(`Adapters${adapters.some((one) => one.chosen) ? ' (* is used)' : ''}`));
  lines.push(...(adapters.length ? adapters.flatMap(adapterLines) : ['  none']));
  lines.push('', `${pc.bold('Choice')}  ${choice}`);
  if (selfTest.length) {
    lines.push('', pc.bold('Self-test'));
    for (const { name, ok, detail } of selfTest) {
      lines.push(`  ${ok ? pc.green('ok  ') : pc.red('FAIL')} ${name.padEnd(14)} ${detail}`);
    }
  }
  lines.push('', pc.bold('Missing'));
  lines.push(...(missing.length ? missing.map(({ what, command }) => `  ${what}\n    ${command}`) : ['  nothing']));
  return lines;
}
