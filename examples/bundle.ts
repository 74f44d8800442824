import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { BuildOptions, Plugin } from 'esbuild';
import { yamlLayer } from '../src/config/yaml.js';

/** Shader sources without WGSL comments and indentation: they are for people, and pages load what is left. */
const wgsl: Plugin = {
  name: 'wgsl',
  setup({ onLoad }) {
    onLoad({ filter: /[/\\]shaders[/\\].*\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      return { loader: 'ts', contents: text.replace(/(^|\s)\/\/ .*$/gm, '').replace(/^ +/gm, '') };
    });
  },
};

/** `presets/*.yaml` as an object of dotted keys: a page needs no YAML parser, and the command line's presets are its own. */
const presets: Plugin = {
  name: 'presets',
  setup({ onLoad }) {
    onLoad({ filter: /\.yaml$/ }, async ({ path }) => {
      const { settings } = yamlLayer(await readFile(path, 'utf8'), basename(path));
      const values = Object.fromEntries([...settings].map(([key, { value }]) => [key, value]));
      return { loader: 'json', contents: JSON.stringify(values) };
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
  plugins: [wgsl, presets] as Plugin[],
} satisfies BuildOptions;
