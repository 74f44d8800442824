import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { serveSite } from '../examples/browser/site.js';
import { temporaryFolder, writeTree } from './data-support.js';

/** The server of `npm run demo`. */

const folder = temporaryFolder();
writeFileSync(join(folder, 'secret.js'), 'secret');
const inside = join(folder, 'site');

/** Status and text of a request for exactly this path, which `fetch` would put right. */
function ask(port: number, path: string): Promise<readonly [status: number | undefined, text: string]> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve([response.statusCode, text]));
    });
    sent.on('error', reject).end();
  });
}

test('files of the folder, and for every other request 404: no address ends the server', async () => {
  writeTree(inside, { 'index.html': 'page', 'page.js': 'script', 'notes.txt': 'no type of a page' });
  const site = await serveSite(pathToFileURL(`${inside}/`));
  try {
    assert.equal(await ask(site.port, '/'), [200, 'page']);
    assert.equal(await ask(site.port, '/page.js?x=1'), [200, 'script']);
    for (const path of [
      '//',
      'http://[',
      '/none.js',
      '/notes.txt',
      '/../secret.js',
      '/..%2fsecret.js',
      '/%00.js',
      '/%',
    ])
      assert.is((await ask(site.port, path))[0], 404, path);
  } finally {
    await site.close();
  }
});

test.run();
