import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { makeWithParents } from '../data/node/folders.js';
import { homeFolder, ownFolder, temporaryCache } from './cache.js';

/**
 * Mesa keeps compiled shaders for the next start, in the user's cache folder. Where that cannot be written (a container that runs
 * as a user without a home) it would say so on stderr in words of its own, and every start would compile for a minute: it is
 * given our temporary folder then, or told to keep none. What the environment says of it already stands.
 */
export function keepShaders(): void {
  const { env } = process;
  if (process.platform !== 'linux' || env['MESA_SHADER_CACHE_DIR'] || env['MESA_SHADER_CACHE_DISABLE']) return;
  const home = homeFolder();
  const usual = env['XDG_CACHE_HOME'] || (home && join(home, '.cache'));
  try {
    if (usual) {
      makeWithParents(usual, 0o700);
      accessSync(usual, constants.W_OK | constants.X_OK);
      return;
    }
  } catch {} // elsewhere, then
  try {
    const folder = temporaryCache();
    if (ownFolder(folder)) env['MESA_SHADER_CACHE_DIR'] = folder;
  } catch {} // nowhere
  if (!env['MESA_SHADER_CACHE_DIR']) env['MESA_SHADER_CACHE_DISABLE'] = 'true';
}
