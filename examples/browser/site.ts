import { createReadStream } from 'node:fs';
import { cp, mkdir, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { browserBuild, root } from '../bundle.js';

/** The page as files, and the server that shows them. */

const source = new URL('examples/browser/', root);
const entries = ['page.ts', 'session.worker.ts', 'umap.worker.ts', 'page.css'];

/** Bundles the page into `folder`. */
export async function buildSite(folder: URL): Promise<void> {
  await mkdir(folder, { recursive: true });
  await build({
    ...browserBuild,
    entryPoints: entries.map((name) => fileURLToPath(new URL(name, source))),
    outdir: fileURLToPath(folder),
    write: true,
  });
  for (const name of ['index.html', 'icon.svg']) await cp(new URL(name, source), new URL(name, folder));
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** Scripts, styles and workers of this origin and nothing else; no network beyond it. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "worker-src 'self'",
  "img-src 'self' blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const headers = {
  'content-security-policy': policy,
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(self)',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-cache',
};

export interface Site {
  readonly port: number;
  close(): Promise<void>;
}

/** Serves the files of `folder` on this machine alone. `port` 0 takes any free one. */
export async function serveSite(folder: URL, port = 0): Promise<Site> {
  const server = createServer((request, response) => {
    // What a request asks for may be no address at all.
    const address = `http://localhost${request.url ?? '/'}`;
    const path = URL.canParse(address) ? new URL(address).pathname : '';
    const file = new URL(`.${path === '/' ? '/index.html' : path}`, folder);
    const type = types[extname(file.pathname)];
    const found = type && file.href.startsWith(folder.href) ? stat(file).catch(() => null) : Promise.resolve(null);
    void found.then((facts) => {
      if (!facts?.isFile() || !type) {
        response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
        return;
      }
      response.writeHead(200, { ...headers, 'content-type': type, 'content-length': facts.size });
      createReadStream(file)
        .on('error', () => response.destroy())
        .pipe(response);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
