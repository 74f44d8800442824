import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../src/cli/options.js';
import { decodeSafetensors } from '../src/data/safetensors.js';
import { defaultTarget } from '../src/gpu/target.js';
import { openNodeGpu } from '../src/node.js';
import { debugStep } from '../src/sop/debug-step.js';
import { traceTraining } from '../src/sop/training.js';
import { projectFile } from './project.js';

/** Activation checkpointing (`train.checkpoint_blocks`): the same bits, less memory. */
const gpu = await openNodeGpu();

test('a step whose blocks are computed again has the same bits', async () => {
  const name = 'step-multicrop.input.safetensors';
  const { tensors, metadata } = decodeSafetensors(readFileSync(projectFile(`kernels-test/fixtures/${name}`)), name);
  const kept = await debugStep(gpu, tensors, metadata, name);
  const again = await debugStep(gpu, tensors, new Map([...metadata, ['train.checkpoint_blocks', 'true']]), name);
  assert.is(again.length, kept.length);
  kept.forEach((array, i) => {
    const [a, b] = [array, again[i]!].map(({ data }) => new Uint32Array((data as Float32Array).buffer));
    assert.ok(
      a!.every((word, e) => word === b![e]),
      `${array.name} differs`,
    );
  });
});

test('activations of a deep model take a fraction of the memory', async () => {
  const activations = async (checkpoint: boolean): Promise<number> => {
    const config = await configFrom({
      preset: 'vit-s',
      set: [`train.checkpoint_blocks=${checkpoint}`, 'train.batch_size=4'],
    });
    const data = { channels: 3 as const, mean: [0, 0, 0], std: [1, 1, 1], residentBytes: null };
    const { plan } = traceTraining(config, data, defaultTarget);
    return plan.buffers.reduce((sum, { group, bytes }) => sum + (group === 'activations' ? bytes : 0), 0);
  };
  assert.ok((await activations(true)) < 0.35 * (await activations(false)));
});

test.run();
