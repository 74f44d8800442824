import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { BuildOptions, Plugin } from 'esbuild';
import { yamlLayer } from '../src/config/yaml.js';

/** The folder of package.json: this file runs from dist. */
export const root = findRoot(new URL('.', import.meta.url));

function findRoot(folder: URL): URL {
  return existsSync(new URL('package.json', folder)) ? folder : findRoot(new URL('..', folder));
}

/** Shader sources without WGSL comments, indentation, spaces round signs, `.0`: they are for people, and pages load the rest. */
const wgsl: Plugin = {
  name: 'wgsl',
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]shaders[/\\].*\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      const code = text.replace(/(^|\s)\/\/ .*$/gm, '').replace(/^ +/gm, '');
      const dense = code
        .replace(/(?<=`) {2,}/g, '')
        .replace(/ ?([-=+%*/<>&|?!,:;{}]) ?/g, '$1')
        .replace(/(?<!#\w*) \(|(?<=\)) /g, (found) => found.trim())
        .replace(/\b(\d+)\.0\b/g, '$1.')
        .replace(/\b(vec[234])<([fiu])32>/g, '$1$2');
      // Lines that begin with # are the preprocessor's.
      return { loader: 'ts', contents: dense.replace(/\n{2,}/g, '\n').replace(/(^\}|[;{,(])\n(?!#)/gm, '$1') };
    });
  },
};

/**
 * Kernels first, then the ops around them, then the method, then the rest: gzip looks back 32 kB, so what is alike stands
 * together. Nothing is bundled for being named here: what a page does not use falls away all the same.
 */
const order: Plugin = {
  name: 'order',
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]src[/\\]index\.ts$/ }, async ({ path }) => {
      const folders = ['shaders', 'src/ops'].map(async (folder) =>
        (await readdir(new URL(folder, root)))
          .filter((name) => name.endsWith('.ts'))
          .map((name) => `${folder}/${name}`),
      );
      const method = ['src/sop/train-step.ts', 'src/sop/training.ts'];
      const imports = [...(await Promise.all(folders)).flat(), ...method].map(
        (name, i) => `import * as first${i} from '../${name}';`,
      );
      return { loader: 'ts', contents: `${imports.join('')}${await readFile(path, 'utf8')}` };
    });
  },
};

/** The schema without what `--help` says of each key, the last argument of its builder: pages have no command line. */
const schema: Plugin = {
  name: 'schema',
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]config[/\\]schema\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      return { loader: 'ts', contents: text.replace(/(?:'[^'\n]*'|"[^"\n]*")(,?\s*\),\n)/g, "''$1") };
    });
  },
};

/** `presets/*.yaml` as objects of dotted keys: a page needs no YAML parser, and the command line's presets are its own. */
const presets: Plugin = {
  name: 'presets',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^presets:all$/ }, ({ path }) => ({ path, namespace: 'presets' }));
    onLoad({ filter: /.*/, namespace: 'presets' }, async () => {
      const folder = new URL('presets/', root);
      const files = (await readdir(folder)).filter((name) => name.endsWith('.yaml'));
      const all = files.map(async (name) => {
        const { settings } = yamlLayer(await readFile(new URL(name, folder), 'utf8'), name);
        const values = Object.fromEntries([...settings].map(([key, { value }]) => [key, value]));
        return [name.slice(0, -'.yaml'.length), values] as const;
      });
      const contents = `export const presets = ${JSON.stringify(Object.fromEntries(await Promise.all(all)))};`;
      return { loader: 'js', contents, watchFiles: files.map((name) => fileURLToPath(new URL(name, folder))) };
    });
  },
};

/** How the demo and the tests bundle for browsers. Any import that browsers do not have is an error. */
export const browserBuild = {
  bundle: true,
  format: 'esm' as const,
  platform: 'browser' as const,
  target: 'es2022',
  minify: true,
  metafile: true,
  logLevel: 'silent' as const,
  plugins: [wgsl, order, schema, presets] as Plugin[],
} satisfies BuildOptions;
