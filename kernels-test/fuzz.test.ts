import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { resolveConfig } from '../src/config/resolve.js';
import { yamlLayer } from '../src/config/yaml.js';
import { ExitCode, SopError } from '../src/errors.js';
import { fuzz } from './fuzz-support.js';
import { projectFile } from './project.js';
import { runCommand } from './run-command.js';

/** Mutated configuration files and drawn command lines; mutated data files: fuzz-files.test.ts. */
const presets = fileURLToPath(projectFile('presets/'));
const texts = readdirSync(presets).map((name) => readFileSync(join(presets, name), 'utf8'));

/** What means something in YAML, or looks like a number and is none. */
const pieces = [
  ...['{', '}', '[', ']', ':', ': ', ',', '- ', '? ', '| ', '> ', '"', "'", '#', '\t', '\n', '  ', '---\n', '...\n'],
  ...['&a ', '*a', '<<: *a\n', '!!js/function ', '!!binary ', '%YAML 9.9\n', '%TAG ! x\n', '~', 'null', 'yes'],
  ...['.nan', '.inf', '-.inf', '1e999', '0x7fffffffffffffff', '-0', '1_000', '__proto__: 1\n', 'constructor: {}\n'],
  ...['\u0000', '\ufeff', '\u2028', '\ud800', '[['.repeat(500), '{a: '.repeat(500), 'model: '.repeat(50)],
];

function mutate(text: string, next: (below: number) => number): string {
  let mutated = text;
  for (let edits = 1 + next(4); edits > 0; edits--) {
    const at = next(mutated.length + 1);
    const [head, tail] = [mutated.slice(0, at), mutated.slice(at)];
    const kind = next(5);
    if (kind === 0) mutated = head + pieces[next(pieces.length)] + tail;
    else if (kind === 1) mutated = head + String.fromCharCode(next(128)) + tail.slice(1);
    else if (kind === 2) mutated = head + tail.slice(next(30));
    else if (kind === 3) mutated = head + mutated.slice(next(mutated.length + 1));
    else mutated = head;
  }
  return mutated;
}

test('mutated configuration files end in a named error or a whole configuration', () =>
  fuzz({
    what: 'mutated YAML files',
    few: 1_000,
    exits: [ExitCode.config],
    refused: 0.25,
    draw: (next) => mutate(texts[next(texts.length)]!, next),
    read: (text) => {
      const config = resolveConfig([yamlLayer(text, 'file.yaml')]);
      assert.ok(config.model.width > 0 && Number.isFinite(config.optim.lr));
    },
    show: JSON.stringify,
  }));

const words = [
  ...['train', 'plan', 'eval', 'knn', 'embed', 'export', 'debug', 'step', 'check-data', 'help', 'trian'],
  ...['--data', '--data=nowhere', '--out', '--steps', '--steps=', '--set', '--set=', '--preset', '--resume', '--seed'],
  ...['--on-bad-image', '--on-nonfinite', '--epochs', '--minutes', '--batch-size', '--quiet', '--debug', '--weights'],
  ...['--run', '--k', '--input', '--output', '--supervize', '--', '-', '-h', '--help', '-V', '-x', '-xyz'],
  ...['nowhere', 'no\nwhere', '', ' ', '0', '-1', '1e-3x', 'nan', 'Infinity', '1e400', '0x10', '١', 'optim.lr=1e-3'],
  ...['optim.lr=', '=', '=1', 'optim.lrr=1', '__proto__=1', 'constructor.name=1', 'model.heads=3', 'eval.k=1,1'],
  ...['train.epochs=1', 'data.std=0', '\u001b[31m', '\u0000', 'a'.repeat(5000), 'fashion-mnits', 'skip:0', 'skip'],
];

test('random command lines end with 0 or with one line and a code of their own', async () => {
  const codes = new Set<number>();
  await fuzz({
    what: 'drawn command lines',
    few: 300,
    exits: [ExitCode.usage, ExitCode.noInput, ExitCode.cannotCreate, ExitCode.config],
    refused: 0.5,
    draw: (next) => {
      const start = [['train', '--data', 'nowhere', '--out', 'nowhere'], ['plan'], [], ['check-data'], ['eval', 'knn']];
      const argv = [...start[next(start.length)]!];
      for (let more = next(6); more > 0; more--) argv.splice(next(argv.length + 1), 0, words[next(words.length)]!);
      // Planning the paper's models takes a second each.
      if (argv.includes('plan')) argv.push('--set', 'model.depth=0');
      return argv;
    },
    read: async (argv) => {
      const { code, err } = await runCommand(...argv);
      codes.add(code);
      if (code === 0) return assert.is(err, '');
      const [line = '', ...more] = err.split('\n');
      assert.match(line, /^sop-gpu: error: /);
      // The stack that --debug adds is no second complaint.
      if (!argv.includes('--debug')) assert.equal(more, ['']);
      const [what, where, why, fix] = /^sop-gpu: error: (.+) \((.*)\): (.+); (.+)$/.exec(line)?.slice(1) ?? [];
      throw new SopError(code as ExitCode, { what: what!, where: where!, why: why!, fix: fix! });
    },
    show: JSON.stringify,
  });
  assert.ok(codes.has(64) && codes.has(66), [...codes].join());
});

test.run();
