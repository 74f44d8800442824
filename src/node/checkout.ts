import { execFileSync } from 'node:child_process';

/**
 * The commit that a folder is a checkout of, and whether the files are just those of it, `results` apart, which are written
 * from what is measured. Null where it is no checkout: a package in the folders of another project is not that project.
 */
export function checkout(folder: string, results: string): { readonly commit: string; readonly clean: boolean } | null {
  const git = (...words: readonly string[]): string =>
    execFileSync('git', words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    if (git('rev-parse', '--show-prefix') !== '') return null;
    const clean = git('status', '--porcelain', '--', '.', `:!${results}`) === '';
    return { commit: git('rev-parse', 'HEAD'), clean };
  } catch {
    return null;
  }
}
