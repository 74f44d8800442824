import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** Exact commands that install what is missing, for the system this runs on. */

const asRoot = () => (process.getuid?.() === 0 ? '' : 'sudo ');

function osRelease(): string {
  return existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
}

/** Installs Mesa's drivers (GPUs of AMD and Intel, and lavapipe for the CPU) and the Vulkan loader. Linux only. */
export function mesaCommand(): string {
  const about = osRelease();
  const packages = 'mesa-vulkan-drivers libvulkan1';
  // Dawn refuses the Mesa 22 of Debian 12; its backports have a newer one.
  if (/^VERSION_CODENAME="?bookworm/m.test(about)) {
    return `${asRoot()}apt install -t bookworm-backports ${packages} (after adding the suite bookworm-backports to apt's sources)`;
  }
  if (/^ID(_LIKE)?=.*(fedora|rhel)/m.test(about)) return `${asRoot()}dnf install mesa-vulkan-drivers vulkan-loader`;
  if (/^ID(_LIKE)?=.*arch/m.test(about)) return `${asRoot()}pacman -S vulkan-swrast vulkan-icd-loader`;
  if (/^ID(_LIKE)?=.*suse/m.test(about)) return `${asRoot()}zypper install libvulkan_lvp libvulkan1`;
  return `${asRoot()}apt install ${packages}`;
}

/** Installs the npm package with SwiftShader, in the version this one was tested with. Linux on x64 only. */
export function swiftShaderCommand(): string {
  const own = createRequire(import.meta.url)('sop-gpu/package.json') as {
    optionalDependencies: Record<string, string>;
  };
  return `npm install @sparticuz/chromium@${own.optionalDependencies['@sparticuz/chromium']}`;
}

/** What gets a (faster) adapter on this machine. */
export function howToGetAdapter(): string {
  if (process.platform === 'darwin') return 'use a Mac with a Metal GPU and macOS 11 or newer';
  if (process.platform === 'win32') return 'install the current driver of the graphics card (Direct3D 12)';
  return `install the driver of the graphics card, or lavapipe (Vulkan on the CPU): ${mesaCommand()}`;
}
