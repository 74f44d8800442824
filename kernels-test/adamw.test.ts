import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Graph } from '../src/graph/graph.js';
import type { Tensor } from '../src/graph/tensor.js';
import { openNodeGpu } from '../src/node.js';
import { updateEma } from '../src/ops/update_ema.js';
import { updateFlag } from '../src/ops/update_flag.js';
import { ADAMW, adamw, packParameters } from '../src/optim/adamw.js';
import { compile } from '../src/plan/compile.js';
import { plan } from '../src/plan/plan.js';
import { Replay } from '../src/plan/replay.js';
import { assertClose } from './compare.js';
import { EPSILON } from './declare.js';
import { fixture, fixtureValues } from './fixtures-support.js';

/** Clipping, AdamW and the teacher's average over three steps, against PyTorch in float64 (fixtures/make_fixtures.py). */
const [given, expected] = [fixture('adamw.input'), fixture('adamw.expected')];
const gpu = await openNodeGpu({ quiet: true });

/** The teacher has no masked_embed: it comes last, so that both packs begin alike. */
const names = ['weight', 'pos_embed', 'bias', 'gain', 'masked_embed'];

const setting = (name: string): number => Number(given.metadata.get(name) ?? Number.NaN);

test('three steps of clipping, AdamW and average as in PyTorch', async () => {
  const graph = new Graph();
  const state = (prefix: string, list = names): Tensor[] =>
    list.map((name) => graph.state(`${prefix}.${name}`, given.tensors.get(`student.${name}`)?.shape ?? []));
  const parameters = names.map((name) =>
    graph.parameter(`student.${name}`, given.tensors.get(`student.${name}`)?.shape ?? []),
  );
  const [gradients, moment1, moment2, teacher] = [
    state('gradient'),
    state('moment1'),
    state('moment2'),
    state('teacher', names.slice(0, -1)),
  ];
  const [pack] = packParameters(graph, { parameters, gradients, moments: [moment1, moment2] }, 2 ** 16);
  const [average] = graph.pack('teacher', teacher, 2 ** 16);
  if (!pack || !average) throw new Error('nothing was packed');
  const scalars = {
    lr: graph.scalar('lr'),
    weightDecay: graph.scalar('decay'),
    correction1: graph.scalar('c1'),
    correction2: graph.scalar('c2'),
  };
  const rate = graph.scalar('rate');
  const flag = graph.state('flag', [1], 'u32');
  graph.add(updateFlag, [flag, pack.squares], {});
  const norms = adamw(graph, flag, pack, ({ shape }) => shape.length > 1, scalars, {
    ...ADAMW,
    clip: setting('optim.clip'),
  });
  graph.add(updateEma, [flag, average.flat, pack.parameters.flat], { rate });
  const replay = new Replay(await compile(gpu, plan(graph, gpu.target, [pack.squares, norms])), [pack.squares, norms]);

  names.forEach((name, i) => {
    replay.write(parameters[i]!, Float32Array.from(fixtureValues(given, `student.${name}`)));
  });
  teacher.forEach((tensor, i) => {
    replay.write(tensor, Float32Array.from(fixtureValues(given, `teacher.${names[i]}`)));
  });
  for (let step = 1; step <= setting('steps'); step++) {
    const prefix = `step.${step}.`;
    names.forEach((name, i) => {
      replay.write(gradients[i]!, Float32Array.from(fixtureValues(given, `${prefix}grad.${name}`)));
    });
    replay.setScalar(scalars.lr, setting(`${prefix}optim.lr`));
    replay.setScalar(scalars.weightDecay, setting(`${prefix}optim.weight_decay`));
    replay.setScalar(scalars.correction1, 1 - ADAMW.beta1 ** setting(`${prefix}step`));
    replay.setScalar(scalars.correction2, 1 - ADAMW.beta2 ** setting(`${prefix}step`));
    replay.setScalar(rate, 1 - setting(`${prefix}momentum`));
    const [squares, sums] = await replay.run();
    // A dozen roundings a step that mostly cancel, of elements within four times the RMS: 5e-7 after three steps.
    const tolerance = 1e-6;
    let parameterSum = 0;
    for (const [i, name] of names.entries()) {
      const close = async (group: string, tensor: Tensor | undefined): Promise<void> => {
        if (tensor)
          assertClose(
            `${prefix}${group}.${name}`,
            tensor,
            await replay.read(tensor),
            fixtureValues(expected, `${prefix}updated.${group}.${name}`),
            tolerance,
          );
      };
      await close('student', parameters[i]);
      await close('moment1', moment1[i]);
      await close('moment2', moment2[i]);
      await close('teacher', teacher[i]);
      const [norm = Number.NaN] = fixtureValues(expected, `${prefix}norm.${name}`);
      assert.ok(Math.abs(Math.sqrt(squares?.[i] ?? Number.NaN) - norm) <= 8 * EPSILON * norm, `${prefix}norm.${name}`);
      for (const value of fixtureValues(expected, `${prefix}updated.student.${name}`)) parameterSum += value * value;
    }
    assert.ok(
      Math.abs((sums?.[0] ?? Number.NaN) - parameterSum) <= tolerance * parameterSum,
      'sum of squares of the parameters',
    );
  }
  replay.destroy();
});

test.after(() => gpu.close());

test.run();
