import { existsSync } from 'node:fs';

/** The folder of package.json: tests run from their sources and from `dist`, fixtures and sources lie here alone. */
export const root: URL = findRoot(new URL('.', import.meta.url));

function findRoot(folder: URL): URL {
  return existsSync(new URL('package.json', folder)) ? folder : findRoot(new URL('..', folder));
}

/** A file of the project by its path from the root. */
export function projectFile(path: string): URL {
  return new URL(path, root);
}
