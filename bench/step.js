// npm run bench:step -- [--preset NAME] [--set KEY=VALUE]... [--steps N] [--channels 1|3] [--adapter NAME] [--json FILE]
import { compiled } from '../bin/launch.js';
import { program } from './program.js';

await program('bench:step', async () => {
  const { benchStep } = await import(compiled('bench/train-step.js'));
  await benchStep(process.argv.slice(2));
});
