#!/usr/bin/env node
// Usage: npm run licences [-- --json]. The licence of every package that the lock file names and this machine has, and
// which of them a user of the published package gets. Ends with 1 where one is missing or nobody has looked at it yet.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './launch.js';

/** Licences that ask for no more than their notice (LGPL: libvips, linked dynamically inside sharp). */
const known = [
  'MIT',
  'ISC',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  '0BSD',
  'BlueOak-1.0.0',
  'LGPL-3.0-or-later',
];

/** @param {string} path */
const read = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** @param {unknown} licence as package.json has it: a text, or in old packages an object or a list */
function spelled(licence) {
  const list = [licence].flat().map((one) => (typeof one === 'object' && one !== null ? one.type : one));
  return list.filter((one) => typeof one === 'string').join(' OR ');
}

const rows = [];
for (const [path, { version, dev = false, optional = false }] of Object.entries(
  read(join(root, 'package-lock.json')).packages,
)) {
  const file = join(root, path, 'package.json');
  // The root itself, and packages of other platforms.
  if (path === '' || !existsSync(file)) continue;
  const about = read(file);
  const licence = spelled(about.license ?? about.licenses) || 'none';
  const parts = licence.replace(/[()]/g, '').split(/ AND /);
  const fine = parts.every((part) => part.split(' OR ').some((one) => known.includes(one)));
  rows.push({ name: about.name, version, licence, for: dev ? 'development' : optional ? 'optional' : 'users', fine });
}
rows.sort((a, b) => (a.licence < b.licence ? -1 : a.licence > b.licence ? 1 : a.name < b.name ? -1 : 1));

if (process.argv.includes('--json')) console.log(JSON.stringify(rows, null, 1));
else
  for (const row of rows)
    console.log(`${row.licence.padEnd(34)} ${`${row.name}@${row.version}`.padEnd(44)} ${row.for}`);
const strange = rows.filter(({ fine }) => !fine);
for (const { name, licence } of strange) console.error(`nobody has looked at the licence of ${name}: ${licence}`);
process.exitCode = strange.length ? 1 : 0;
