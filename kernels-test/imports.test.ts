import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { projectFile } from './project.js';

/**
 * What each part may import, most basic first (imports point one way): a part imports only what stands above
 * it, but for `types`, which vanish when compiled. A new part is a new line here, with thought.
 */
const parts: Readonly<Record<string, { readonly values: readonly string[]; readonly types?: readonly string[] }>> = {
  errors: { values: [] },
  numbers: { values: [] },
  rng: { values: [] },
  turns: { values: [] },
  graph: { values: ['errors'], types: ['gpu'] },
  gpu: { values: ['errors', 'numbers'], types: ['graph'] },
  shaders: { values: ['rng', 'graph'], types: ['gpu'] },
  ops: { values: ['errors', 'rng', 'graph', 'shaders'], types: ['gpu'] },
  plan: { values: ['errors', 'graph', 'gpu'] },
  nn: { values: ['errors', 'graph', 'ops'] },
  optim: { values: ['errors', 'graph', 'ops'] },
  config: { values: ['errors'] },
  data: { values: ['errors', 'numbers', 'rng', 'graph', 'ops', 'plan'], types: ['gpu', 'config'] },
  sop: {
    values: ['errors', 'numbers', 'rng', 'graph', 'ops', 'plan', 'nn', 'optim', 'config', 'data'],
    types: ['gpu'],
  },
  eval: { values: ['errors', 'rng', 'turns', 'graph', 'ops', 'plan', 'nn', 'data', 'sop'], types: ['gpu'] },
  engine: { values: ['errors', 'turns', 'graph', 'gpu', 'plan', 'config', 'data', 'sop', 'eval'] },
};

/** Parts on top: they may import everything in src and shaders. */
const top = ['index', 'node', 'cli', 'bench', 'examples'];

/** Packages that run in browsers too. */
const portable = ['valibot', 'yaml', 'wgsl-preprocessor'];

/** What the browser page uses besides. */
const portableInPages = ['uplot', 'umap-js', 'presets:all', 'sop-gpu'];

interface Import {
  readonly file: string;
  readonly line: number;
  readonly from: string;
  readonly typeOnly: boolean;
}

const folders = ['src', 'shaders', 'bench', 'kernels-test', 'examples'];
const filesOf = (folder: string): string[] =>
  readdirSync(projectFile(folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => !name.includes('node_modules'))
    .map((name) => `${folder}/${name}`);
const files = folders.flatMap(filesOf).filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'));

/** `import ... from`, `export ... from`, `import '...'`, `import(...)`, of one or many lines. */
const statement =
  /^\s*(?:import|export)\s+(type\s)?(?:[\w*{][^;'"`]*?\sfrom\s+)?(['"])([^'"]+)\2|\bimport\(\s*(['"])([^'"]+)\4/gm;

function importsOf(file: string): Import[] {
  const text = readFileSync(projectFile(file), 'utf8');
  return [...text.matchAll(statement)].map((match) => ({
    file,
    line: text.slice(0, match.index).split('\n').length,
    from: match[3] ?? match[5] ?? '',
    typeOnly: match[1] !== undefined,
  }));
}

const all = files.flatMap(importsOf);

/** Path from the root of what a relative import names, without extension. */
const resolved = ({ file, from }: Import): string => posix.join(posix.dirname(file), from).replace(/\.js$/, '');

/** `ops` for src/ops/..., `errors` for src/errors.ts, `shaders` for shaders/...; what it belongs to. */
function partOf(path: string): string {
  const [folder = '', name = ''] = path.split('/');
  return folder === 'src' ? name.replace(/\.ts$/, '') : folder;
}

const mayUseNode = (path: string): boolean =>
  /^src\/(node|cli|data\/node)(\/|\.ts$|$)|^(bench|kernels-test)\/|^examples\/(bundle|reference|browser\/(site|demo))(\.ts)?$/.test(
    path,
  );
const show = (list: readonly Import[]): string =>
  list.map(({ file, line, from }) => `\n  ${file}:${line} imports ${from}`).join('');
const none = (list: readonly Import[], rule: string): void => assert.is(list.length, 0, `${rule}:${show(list)}`);

test('the pattern sees every kind of import', () => {
  const text = `import a from 'b1';\nimport type { A } from "b2";\nimport {\n  b,\n  c,\n} from './b3.js';\nexport * from './b4.js';\nimport 'b5';\nconst d = await import('b6');\n`;
  assert.equal(
    [...text.matchAll(statement)].map((match) => match[3] ?? match[5]),
    ['b1', 'b2', './b3.js', './b4.js', 'b5', 'b6'],
  );
  assert.ok(all.length > files.length, 'fewer imports than files were found');
});

test('every part of src has its place in the order', () => {
  const unknown = [...new Set(files.filter((file) => !file.startsWith('kernels-test/')).map(partOf))].filter(
    (part) => !parts[part] && !top.includes(part),
  );
  assert.equal(unknown, [], 'add the part to the table of this test');
});

test('the table itself points one way', () => {
  const order = Object.keys(parts);
  for (const [part, { values }] of Object.entries(parts)) {
    for (const other of values)
      assert.ok(order.indexOf(other) < order.indexOf(part) && order.includes(other), `${part} imports ${other}`);
  }
});

test('imports point one way', () => {
  const wrong = all.filter((entry) => {
    const part = partOf(entry.file);
    const rule = parts[part];
    if (!rule || !entry.from.startsWith('.')) return false;
    const target = partOf(resolved(entry));
    return target !== part && !rule.values.includes(target) && !(entry.typeOnly && rule.types?.includes(target));
  });
  none(wrong, 'a part imports what stands beside or below it');
});

test('nothing that ships imports tests; nothing but tests and benchmarks imports benchmarks', () => {
  const ships = all.filter(
    ({ file, from }) => from.startsWith('.') && !file.startsWith('kernels-test/') && !file.startsWith('bench/'),
  );
  none(
    ships.filter((entry) => /^(kernels-test|bench)\//.test(resolved(entry)) && partOf(entry.file) !== 'cli'),
    'shipped code imports tests or benchmarks',
  );
  none(
    all.filter((entry) => entry.file.startsWith('src/') && resolved(entry).startsWith('kernels-test/')),
    'src imports tests',
  );
});

test('only src/node, src/cli and src/data/node use Node and its packages', () => {
  const browser = all.filter(({ file }) => !mayUseNode(file));
  const known = (file: string): readonly string[] =>
    file.startsWith('examples/') ? [...portable, ...portableInPages] : portable;
  const foreign = browser.filter(
    ({ file, from }) => !from.startsWith('.') && !known(file).includes(from.split('/')[0] ?? ''),
  );
  none(foreign, 'a file that browsers load imports a package that they lack');
  none(
    browser.filter((entry) => entry.from.startsWith('.') && mayUseNode(resolved(entry))),
    'a file that browsers load imports one for Node',
  );
});

test('files that browsers load use no globals of Node', () => {
  const used = files
    .filter((file) => !mayUseNode(file))
    .flatMap((file) => {
      const lines = readFileSync(projectFile(file), 'utf8').split('\n');
      return lines.flatMap((line, i) =>
        /\b(process\.\w|Buffer\.(from|alloc)|require\(|__dirname)/.test(line.replace(/\/\/.*|^\s*\*.*/, ''))
          ? [`${file}:${i + 1}`]
          : [],
      );
    });
  assert.equal(used, []);
});

test('comments name no page that is missing here', () => {
  const sources = [...folders, 'bin', 'presets']
    .flatMap(filesOf)
    .filter((file) => /\.(ts|js|py|yaml)$|^bin\//.test(file));
  const mentions = sources.flatMap((file) =>
    [...readFileSync(projectFile(file), 'utf8').matchAll(/^\s*(?:\/?\*|\/\/|#).*$/gm)].flatMap(([comment]) =>
      [...comment.matchAll(/[\w./-]+\.md\b/g)].map(([page]) => ({ file, page })),
    ),
  );
  assert.ok(mentions.some(({ page }) => page === 'examples/reference.md'));
  assert.equal(
    mentions.filter(({ page }) => !existsSync(projectFile(page))),
    [],
  );
});

test.run();
