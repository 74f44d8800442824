import { choiceFlag, requiredFlag, textFlag } from './flags.js';
import { settingFlags } from './options.js';

/** Flags of the commands that work on a trained model. */
export const weightsFlags = {
  run: textFlag('--run <dir>', 'folder of a run: the teacher that it ended with, or where it has not, the best so far'),
  weights: textFlag(
    '--weights <file>',
    'safetensors file (timm or Hugging Face names, or a checkpoint), or a folder of Hugging Face',
    'read',
  ),
  ...settingFlags,
};

export const networkFlag = choiceFlag(
  '--network <name>',
  ['teacher', 'student'],
  'which network of a run (default teacher)',
);

/** Flags of the commands that compute one file from another. */
export const debugFlags = {
  input: requiredFlag('--input <file.safetensors>', 'tensors, and settings in its metadata', 'read'),
  output: requiredFlag('--output <file.safetensors>', 'where the results go', 'written'),
};
