import { reasonOf } from '../../src/errors.js';
import { root } from '../bundle.js';
import { buildSite, serveSite } from './site.js';

/** `npm run demo [port]`: builds the page, serves it, prints where. */
const site = new URL('dist/site/', root);
const asked = process.argv[2];
const port = asked === undefined ? 8080 : Number(asked);
try {
  await buildSite(site);
  // A taken port is no reason to fail when nobody asked for it.
  const server = await serveSite(site, port).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE' && asked === undefined) return serveSite(site);
    throw error;
  });
  console.log(`http://localhost:${server.port}/   (Ctrl-C ends it)`);
} catch (error) {
  console.error(
    `sop-gpu: error: the page cannot be served (port ${asked ?? 8080}): ${reasonOf(error)}; give another: npm run demo -- 9000`,
  );
  process.exitCode = 73;
}
