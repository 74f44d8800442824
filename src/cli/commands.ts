import { type Command, defineCommand } from './command.js';
import { requiredFlag } from './flags.js';

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
];

/** What `sop-gpu <group> --help` says of commands with two words. */
export const groups: ReadonlyMap<string, string> = new Map([
  ['eval', 'measure what features are worth'],
  ['debug', 'run one part of the engine on numbers from a file'],
]);
