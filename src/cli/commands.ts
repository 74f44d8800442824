import { type Command, defineCommand } from './command.js';
import { positiveFlag, requiredFlag, switchFlag, textFlag } from './flags.js';
import { keysHelp, trainingFlags } from './options.js';

/**
 * Every command: its flags and the function that does the work, loaded when it is called.
 * To add one: a file with a function of typed options, and an entry here.
 */
export const commands: readonly Command[] = [
  defineCommand({
    path: ['check-data'],
    summary: 'read every file of a data set and report',
    example: 'sop-gpu check-data --data photos/',
    flags: { data: requiredFlag('--data <path or name>', 'folder of images, IDX or CIFAR files, or fashion-mnist') },
    run: async ({ flags, printer }) => (await import('./check-data.js')).checkDataCommand(flags, printer),
  }),
  defineCommand({
    path: ['doctor'],
    summary: 'what this machine can compute on, a self-test, and how to get what is missing',
    example: 'sop-gpu doctor',
    flags: {},
    run: async ({ common }) => {
      const { printDoctor, runDoctor } = await import('./doctor.js');
      const report = await runDoctor({ adapter: common.adapter });
      if (!common.quiet) printDoctor(report);
      const wrong = report.selfTest.filter((test) => !test.ok).map((test) => test.name);
      const tests = `self-test failed (${wrong.join(', ')}): wrong results; choose another adapter with --adapter`;
      const message = wrong.length > 0 ? tests : report.choice;
      return { result: report, failure: report.exitCode === 0 ? undefined : { exitCode: report.exitCode, message } };
    },
  }),
  defineCommand({
    path: ['quickstart'],
    summary: 'train a small model on Fashion-MNIST in minutes and show what it learned',
    example: 'sop-gpu quickstart --minutes 2',
    flags: { minutes: positiveFlag('--minutes <n>', 'minutes of training (default: by adapter, 2 to 5)') },
    run: async ({ flags, common, printer }) =>
      (await import('./quickstart.js')).quickstartCommand(flags, common, printer),
  }),
  defineCommand({
    path: ['train'],
    summary: 'pre-train a Vision Transformer without labels',
    example: 'sop-gpu train --data photos/ --preset small-64 --out runs/photos',
    flags: {
      ...trainingFlags,
      out: textFlag('--out <dir>', 'folder of the run: settings, metrics, checkpoints, weights'),
      resume: switchFlag('--resume', 'go on with the run in --out'),
      init: textFlag('--init <file.safetensors>', 'weights to begin with (timm, Hugging Face or our names)'),
      profile: switchFlag('--profile', 'time every dispatch of some steps: a table, and a trace for chrome://tracing'),
    },
    more: keysHelp,
    run: async ({ flags, common, printer }) => (await import('./train.js')).trainCommand(flags, common, printer),
  }),
];

/** What `sop-gpu <group> --help` says of commands with two words. */
export const groups: ReadonlyMap<string, string> = new Map([
  ['eval', 'measure what features are worth'],
  ['debug', 'run one part of the engine on numbers from a file'],
]);
