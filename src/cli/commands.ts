import { type Command, defineCommand } from './command.js';
import { choiceFlag, integersFlag, positiveFlag, repeatedFlag, requiredFlag, switchFlag, textFlag } from './flags.js';
import { debugFlags, networkFlag, weightsFlags } from './model-flags.js';
import { badImageFlag, keysHelp, stepFlags, trainingFlags } from './options.js';

/**
 * Every command, in the order in which a newcomer meets them: its flags and the function that does the work, loaded when it
 * is called. To add one: a file with a function of typed options, and an entry here.
 */
export const commands: readonly Command[] = [
  defineCommand({
    path: ['doctor'],
    summary: 'what this machine can compute on, a self-test, and how to get what is missing',
    example: 'sop-gpu doctor',
    flags: {},
    run: async ({ common, printer, stop }) => (await import('./doctor.js')).doctorCommand(common, printer, stop),
  }),
  defineCommand({
    path: ['quickstart'],
    summary: 'train a small model on Fashion-MNIST in minutes and show what it learned',
    example: 'sop-gpu quickstart --minutes 2',
    flags: { minutes: positiveFlag('--minutes <n>', 'minutes of training (default: by adapter, 2 to 5.5)') },
    run: async ({ flags, common, printer, stop }) =>
      (await import('./quickstart.js')).quickstartCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['check-data'],
    summary: 'read every file of a data set and report',
    example: 'sop-gpu check-data --data photos/',
    flags: { data: requiredFlag('--data <path or name>', 'folder of images, IDX or CIFAR files, or fashion-mnist') },
    run: async ({ flags, printer }) => (await import('./check-data.js')).checkDataCommand(flags, printer),
  }),
  defineCommand({
    path: ['plan'],
    summary: 'memory, work and dispatches of a training step, before anything runs and without a device',
    example: 'sop-gpu plan --preset vit-s --batch-size 64',
    flags: trainingFlags,
    more: keysHelp,
    run: async ({ flags, common, printer }) => (await import('./plan.js')).planCommand(flags, common, printer),
  }),
  defineCommand({
    path: ['train'],
    logs: true,
    summary: 'pre-train a Vision Transformer without labels',
    example: 'sop-gpu train --data photos/ --preset small-64 --out runs/photos',
    flags: {
      ...trainingFlags,
      out: textFlag('--out <dir>', 'folder of the run: settings, metrics, checkpoints, weights', 'written'),
      resume: switchFlag('--resume', 'go on with the run in --out'),
      supervise: switchFlag('--supervise', 'where training dies, start it again from its last checkpoint'),
      init: textFlag('--init <file.safetensors>', 'weights to begin with (timm, Hugging Face or our names)', 'read'),
      profile: switchFlag('--profile', 'time every dispatch of some steps: a table, and a trace for chrome://tracing'),
    },
    more: keysHelp,
    run: async ({ flags, common, printer, stop }) =>
      (await import('./train.js')).trainCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['eval', 'knn'],
    summary: 'k-NN classification with frozen features: what they are worth without any training on labels',
    example: 'sop-gpu eval knn --run runs/x --data fashion-mnist --json knn.json',
    flags: {
      ...weightsFlags,
      data: requiredFlag(
        '--data <path or name>',
        'gallery; a set with train/ and val/ or test/ is gallery and queries',
      ),
      queries: textFlag(
        '--queries <path or name>',
        'queries of their own; without any, each gallery image is left out once',
      ),
      k: integersFlag('--k <list>', 'numbers of neighbours that vote (default 10,20,100,200)'),
      untrained: switchFlag('--untrained', 'the same encoder before training, from train.seed'),
      onBadImage: badImageFlag,
      pixels: switchFlag('--pixels', 'L2-normalised raw pixels instead of features; needs no weights'),
    },
    run: async ({ flags, common, printer, stop }) =>
      (await import('./eval-knn.js')).evalKnnCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['embed'],
    summary:
      'write the features of a set: f32, after the final norm, not L2-normalised; names and labels beside as .json',
    example: 'sop-gpu embed --run runs/x --data photos/ --output features.npy',
    flags: {
      ...weightsFlags,
      data: requiredFlag('--data <path or name>', 'folder of images, IDX or CIFAR files, or fashion-mnist'),
      onBadImage: badImageFlag,
      split: choiceFlag('--split <name>', ['train', 'test'], 'part of a set that has both (default train)'),
      output: requiredFlag('--output <file>', 'x.npy, or x.safetensors (tensors features, labels)', 'written'),
    },
    run: async ({ flags, common, printer, stop }) =>
      (await import('./embed.js')).embedCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['export'],
    summary: 'write a backbone for other programs',
    example: 'sop-gpu export --run runs/x --format hf --output my-vit/',
    flags: {
      ...weightsFlags,
      output: requiredFlag('--output <file or dir>', 'timm: a safetensors file; hf: a folder', 'written'),
      format: choiceFlag('--format <name>', ['timm', 'hf'], 'whose names (default timm)'),
      network: networkFlag,
    },
    run: async ({ flags, printer }) => (await import('./export.js')).exportCommand(flags, printer),
  }),
  defineCommand({
    path: ['tune'],
    summary: 'time the variants of the kernels of a training step on this adapter, and use the fastest from now on',
    example: 'sop-gpu tune --preset vit-s --batch-size 16',
    flags: stepFlags,
    more: async () => tuneHelp,
    run: async ({ flags, common, printer, stop }) =>
      (await import('./tune.js')).tuneCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['bench'],
    summary: 'check and time every kernel, forward and backward, against what the device can do at best',
    example: 'sop-gpu bench matmul attention --json bench.json',
    operands: { syntax: '[op...]', help: 'ops to bench (default all)' },
    flags: {
      shape: repeatedFlag(
        '--shape <numbers>',
        'shape to bench, 12608x384x1152; may be repeated (what they mean: below)',
      ),
      precision: choiceFlag('--precision <type>', ['f32', 'f16'], 'how tensors are stored, where ops take f16'),
      markdown: textFlag('--markdown <file>', 'also write the table as Markdown', 'written'),
    },
    more: async () => (await import('./bench.js')).benchHelp(),
    run: async ({ flags, operands, common, printer, stop }) =>
      (await import('./bench.js')).benchCommand(operands, flags, common, printer, stop),
  }),
  defineCommand({
    path: ['debug', 'step'],
    summary: 'one training step with weights, views, masks, anchors and memories from a file',
    example: 'sop-gpu debug step --input step.safetensors --output result.safetensors',
    flags: debugFlags,
    more: async () => (await import('./debug-formats.js')).stepFormat,
    run: async ({ flags, common, printer, stop }) =>
      (await import('./debug.js')).debugStepCommand(flags, common, printer, stop),
  }),
  defineCommand({
    path: ['debug', 'augment'],
    summary: 'the augmentation of given images with given draws',
    example: 'sop-gpu debug augment --input images.safetensors --output views.safetensors',
    flags: debugFlags,
    more: async () => (await import('./debug-formats.js')).augmentFormat,
    run: async ({ flags, common, printer, stop }) =>
      (await import('./debug.js')).debugAugmentCommand(flags, common, printer, stop),
  }),
];

/** What is kept, and how not to use it. */
const tuneHelp = `
The winners are kept in $XDG_CACHE_HOME/sop-gpu/tuning (or ~/.cache/sop-gpu/tuning), a file for each adapter, driver and
version of sop-gpu; where it is stopped, those found so far. SOP_GPU_TUNING=off uses the built-in choices. Another variant
rounds in another order: a run that is to go on bit for bit must find the tuning that it began with.
`;

/** What `sop-gpu <group> --help` says of commands with two words. */
export const groups: ReadonlyMap<string, string> = new Map([
  ['eval', 'measure what features are worth'],
  ['debug', 'run one part of the engine on numbers from a file'],
]);
