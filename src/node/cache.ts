import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where files go that can be made again: `$XDG_CACHE_HOME/sop-gpu` or `~/.cache/sop-gpu`. */
export function cacheFolder(): string {
  const asked = process.env['XDG_CACHE_HOME'];
  return join(asked?.startsWith('/') ? asked : join(homedir(), '.cache'), 'sop-gpu');
}
