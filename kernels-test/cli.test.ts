import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { describeFailure } from '../src/cli/failure.js';
import { choiceFlag, integersFlag, positiveFlag } from '../src/cli/flags.js';
import { configFrom, keysHelp, presetNames } from '../src/cli/options.js';
import { checkCreatable } from '../src/cli/output-file.js';
import { Printer } from '../src/cli/printer.js';
import { table } from '../src/cli/table.js';
import { cannotRead } from '../src/data/node/io-errors.js';
import { ExitCode, SopError } from '../src/errors.js';
import { failsWith } from './cli-support.js';
import { fails, picture, temporaryFolder, writeTree } from './data-support.js';
import { projectFile } from './project.js';
import { runCommand } from './run-command.js';

const folder = temporaryFolder();
const photos = join(folder, 'photos');
const png = await picture(8, 8, 3).png().toBuffer();
writeTree(photos, { 'cat/a.png': png, 'cat/b.png': png, 'dog/a.png': png });

test('help and version answer on stdout with exit code 0', async () => {
  for (const argv of [['--help'], ['help'], ['check-data', '--help'], ['help', 'check-data'], ['doctor', '-h']]) {
    const { code, out, err } = await runCommand(...argv);
    assert.equal([code, err], [0, ''], argv.join(' '));
    assert.match(out, /^Usage: sop-gpu/);
  }
  const help = (await runCommand('check-data', '--help')).out;
  assert.is((await runCommand('help', 'eval', 'knn')).out, (await runCommand('eval', 'knn', '--help')).out);
  for (const flag of ['--data', '--adapter', '--json', '--quiet', '--debug', 'Example:'])
    assert.ok(help.includes(flag));
  assert.match((await runCommand('--version')).out, /^\d+\.\d+\.\d+\n$/);
});

test('a wrong command line is one line, exit code 64, with the nearest name', async () => {
  await failsWith(64, ['chek-data'], /unknown command chek-data/, /did you mean check-data\?/);
  await failsWith(64, ['check-data', '--dta', 'x'], /unknown flag --dta/, /did you mean --data\?/);
  await failsWith(64, ['check-data'], /--data is missing/);
  await failsWith(64, ['check-data', '--data'], /no value for --data/);
  await failsWith(64, ['check-data', '--data='], /expected a text, got nothing/);
  await failsWith(64, ['check-data', '--data', 'x', 'y'], /too many words/);
  await failsWith(64, [], /no command/);
  for (const argv of [
    ['help', 'foo'],
    ['foo', '--help'],
    ['foo', '-h'],
    ['help', 'foo', '--help'],
  ])
    await failsWith(64, argv, /unknown command foo \(sop-gpu\)/);
  for (const argv of [
    ['help', 'eval', 'foo'],
    ['eval', 'foo', '--help'],
    ['eval', 'foo'],
  ])
    await failsWith(64, argv, /unknown command foo \(sop-gpu eval\)/);
  await failsWith(64, ['--zzzzzz'], /unknown flag --zzzzzz/, /see sop-gpu --help/);
});

test('a result goes to --json; a result that could not be written fails before the work', async () => {
  const file = join(folder, 'report.json');
  const { code, out } = await runCommand('check-data', '--data', photos, '--json', file);
  assert.is(code, 0);
  assert.match(out, /3 readable images/);
  assert.match(out, /^2 classes$/m);
  const one = await runCommand('check-data', '--data', join(photos, 'dog'));
  assert.match(one.out, /: 1 readable image\n/);
  const report = JSON.parse(readFileSync(file, 'utf8'));
  assert.equal([report.images, report.classes, report.bad], [3, { cat: 2, dog: 1 }, []]);
  // The data set does not exist either: the output is what is looked at first.
  await failsWith(
    73,
    ['check-data', '--data', '/nonexistent', '--json', join(folder, 'no/r.json')],
    /the folder for it/,
  );
  await failsWith(73, ['check-data', '--data', '/nonexistent', '--json', folder], /it is a folder/);
  await failsWith(66, ['check-data', '--data', '/nonexistent', '--json', file], /\/nonexistent/);
  assert.equal(readdirSync(folder).sort(), ['photos', 'report.json']);
});

test('a file that one flag writes is no other flag’s, however it is spelt; /dev/null may be', async () => {
  const file = join(folder, 'same');
  const spelt = join(folder, 'photos', '..', '.', 'same');
  await failsWith(64, ['debug', 'step', '--input', file, '--output', spelt], /--output and --input share a file/);
  await failsWith(64, ['bench', '--markdown', file, '--json', spelt], /--json and --markdown share a file/);
  await failsWith(64, ['train', '--out', file, '--json', spelt], /--json and --out share a file/);
  await failsWith(64, ['export', '--weights', file, '--output', spelt], /--output and --weights share a file/);
  const nowhere = ['--output', '/dev/null', '--json', '/dev/null'];
  await failsWith(66, ['export', '--weights', file, ...nowhere], /same\): it does not exist/);
  assert.is(existsSync(file), false);
});

test('--quiet prints nothing; a bad image ends the report with 65', async () => {
  assert.equal(await runCommand('check-data', '--data', photos, '--quiet'), { code: 0, out: '', err: '' });
  const bad = writeTree(join(folder, 'bad'), { 'a.png': png, 'b.png': 'no image' });
  await failsWith(65, ['check-data', '--data', bad, '--quiet'], /b\.png/, /1 of 2/);
});

test('names of files with line breaks and escape sequences are shown on one line, without these', async () => {
  const named = writeTree(join(folder, 'named'), { 'a/\u001b[2J\nb.png': 'no image', 'a/c.png': png });
  await failsWith(65, ['check-data', '--data', named, '--quiet'], /a\/ \[2J b\.png/);
  const { out } = await runCommand('check-data', '--data', named);
  assert.match(out, /cannot be decoded: .*a\/ \[2J b\.png: its content/);
  assert.not.ok(out.includes('\u001b'));
  const warned: string[] = [];
  new Printer(true, process.stdout, { write: (text: string) => warned.push(text) } as never).warn('a\nb\u001b[1m');
  assert.equal(warned, ['sop-gpu: warning: a b [1m\n']);
});

test('check-data says in its one line what is wrong with the first bad file', async () => {
  const cut = writeTree(join(folder, 'cut'), { 'b.png': png.subarray(0, 40) });
  await failsWith(65, ['check-data', '--data', cut], /\(.*b\.png\): 1 of 1 cannot be decoded, this first: [^;]+;/);
  const set = writeTree(join(folder, 'unnameable'), { 'a.png': png });
  try {
    writeFileSync(Buffer.concat([Buffer.from(`${set}/`), Buffer.from([0xff, 0xfe]), Buffer.from('.png')]), png);
  } catch (error) {
    return console.log(`NOT RUN: a name that is not UTF-8: ${String(error)}`);
  }
  await failsWith(65, ['check-data', '--data', set], /1 of 2 cannot be decoded, this first: its name is not UTF-8;/);
});

test('an error nobody foresaw is 70 and one line, the stack only where it is asked for', async () => {
  const { exitCode, message, stack } = describeFailure(new TypeError('x is\nnot \u001b[31ma function'), 'train');
  assert.is(exitCode, 70);
  assert.is(message.includes('\n') || message.includes('\u001b'), false);
  assert.match(message, /internal error \(train\): TypeError: x is not \[31ma function; /);
  assert.match(stack ?? '', /cli\.test/);
  const { err } = await runCommand('check-data', '--data', '/nonexistent', '--debug');
  assert.match(err, /^sop-gpu: error: .+\n.+\n\s+at /);
  assert.match(err, /caused by .*ENOENT/);
  const wrapped = new SopError(ExitCode.io, { what: 'a', where: 'b', why: 'c', fix: 'd' });
  assert.is(describeFailure(wrapped, 'train').message, 'a (b): c; d');
});

test('a process that may open few files says so in one line: 69', async () => {
  const emfile = Object.assign(new Error('EMFILE'), { code: 'EMFILE' });
  const { exitCode, message } = describeFailure(emfile, 'train');
  assert.is(exitCode, 69);
  assert.match(message, /limit of the process is too low \(train\): too many open files \(EMFILE\); .*ulimit -n/);
  assert.match(cannotRead('a.png', emfile).message, /a\.png.*EMFILE.*ulimit -n/);
  if (process.platform === 'win32') return console.log('NOT RUN: there is no ulimit here');
  const program = fileURLToPath(projectFile('bin/sop-gpu'));
  const ends = [28, 34, 40, 256].map((limit) => {
    const command = `ulimit -n ${limit}; exec "$0" "$@"`;
    const words = [process.execPath, program, 'check-data', '--data', photos];
    const { status, stderr } = spawnSync('sh', ['-c', command, ...words], { encoding: 'utf8' });
    assert.match(
      stderr,
      status === 0 ? /^$/ : /^sop-gpu: error: [^\n]*EMFILE[^\n]*ulimit -n[^\n]*\n$/,
      `${limit}: ${status}`,
    );
    return status;
  });
  assert.equal([ends[0], ends.at(-1)], [69, 0]);
  assert.ok(
    ends.every((code) => code === 0 || code === 69),
    String(ends),
  );
});

test('the reader of stdout may go away', async () => {
  const url = new URL('../src/cli/main.js', import.meta.url).href;
  const script = `import { main } from ${JSON.stringify(url)};
    for (let i = 0; i < 200; i++) await main(['check-data', '--help']);
    process.exitCode = await main(['check-data', '--data', ${JSON.stringify(photos)}]);`;
  const child = spawn(process.execPath, [...process.execArgv, '--input-type=module', '-e', script]);
  let err = '';
  child.stderr.on('data', (chunk: Buffer) => {
    err += String(chunk);
  });
  child.stdout.once('data', () => child.stdout.destroy());
  const code = await new Promise((resolve) => child.on('close', resolve));
  assert.equal([code, err], [0, '']);
});

test('presets, files and flags become one configuration', async () => {
  const yaml = join(folder, 'my.yaml');
  writeTree(folder, { 'my.yaml': 'train: { batch_size: 8 }\n' });
  const config = await configFrom({
    preset: 'fashion-mnist',
    config: yaml,
    set: ['head.out=32'],
    steps: '20',
    data: 'x',
  });
  assert.equal([config.model.width, config.train.batch_size, config.head.out], [64, 8, 32]);
  assert.equal([config.train.steps, config.data.path], [20, 'x']);
  await fails(() => configFrom({ preset: 'fashion-mnst' }), 64, /did you mean fashion-mnist\?/);
  await fails(() => configFrom({ preset: '../package' }), 64, /unknown preset/);
  await fails(() => configFrom({ config: join(folder, 'none.yaml') }), 66, /none\.yaml/, /does not exist/);
  await fails(() => configFrom({ batchSize: '3x' }), 64, /\(--batch-size\)/, /got "3x"/);
  await fails(() => configFrom({ epochs: '3', steps: '4' }), 64, /train\.epochs and train\.steps/);
  await fails(() => configFrom({ seed: '3', set: ['train.seed=4'] }), 64, /given twice/);
});

test('the help of train lists every preset and key', async () => {
  const text = await keysHelp();
  for (const name of await presetNames()) assert.ok(text.includes(name));
  assert.match(text, /sop\.cls\.neighbours +8 +support embeddings/);
});

test('flags read numbers strictly', async () => {
  const k = integersFlag('--k <list>', '');
  assert.equal(k.parse('20,10'), [10, 20]);
  for (const text of ['', '1,', '0', '1.5', '1,1', '-1', '1e2', '99999999999999999999']) {
    await fails(() => k.parse(text), 64, /--k/);
  }
  const minutes = positiveFlag('--minutes <n>', '');
  assert.is(minutes.parse('2.5'), 2.5);
  for (const text of ['', '0', '-1', 'nan', 'Infinity', '1e999', '1e-3x']) {
    await fails(() => minutes.parse(text), 64, /--minutes/);
  }
  const format = choiceFlag('--format <name>', ['timm', 'hf'], '');
  assert.is(format.parse('hf'), 'hf');
  await fails(() => format.parse('HF'), 64, /timm or hf/);
});

test('tables align numbers to the right and ignore colours', () => {
  const red = (text: string) => `\u001b[31m${text}\u001b[39m`;
  assert.equal(
    table(
      ['op', 'ms'],
      [
        ['matmul', '12.5'],
        [red('add'), 3],
        ['none', undefined],
      ],
    ),
    ['  op        ms', '  matmul  12.5', `  ${red('add')}        3`, '  none'],
  );
  assert.equal(table([], []), []);
});

test('checking an output leaves nothing behind and keeps what is there', async () => {
  const place = writeTree(join(folder, 'outputs'), { 'old.npy': 'old' });
  await checkCreatable(join(place, 'old.npy'));
  await checkCreatable(join(place, 'new.npy'));
  assert.equal(readdirSync(place), ['old.npy']);
  assert.is(existsSync(join(place, 'new.npy')), false);
  await fails(() => checkCreatable(join(place, 'old.npy', 'x')), 73, /not a folder/);
});

test.run();
