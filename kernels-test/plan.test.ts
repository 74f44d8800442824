import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { kernel, read, write } from '../shaders/lib/kernel.js';
import { SopError } from '../src/errors.js';
import { defaultTarget } from '../src/gpu/target.js';
import { Graph } from '../src/graph/graph.js';
import { defineOp, input, type NoAttributes, type Operand, output, scratch } from '../src/graph/op.js';
import { bytes, f32, type Spec, type Tensor } from '../src/graph/tensor.js';
import { type Plan, plan } from '../src/plan/plan.js';
import { dispatchFlops } from '../src/plan/report.js';
import { Random } from './declare.js';

type MixAttributes = {
  readonly outputs: readonly number[];
  readonly scratch: readonly number[];
  readonly workgroups: number;
};

/** Reads all its inputs, writes outputs and scratch of the given sizes: one launch that binds everything. */
const mix = defineOp<MixAttributes>({
  name: 'mix',
  infer: (_inputs, { outputs }) => outputs.map((size) => f32(size)),
  scratch: ({ attrs }) => attrs.scratch.map((size) => f32(size)),
  launches({ inputs, outputs, attrs }) {
    const named = <T>(name: string, list: readonly unknown[], value: (i: number) => T): [string, T][] =>
      list.map((_, i) => [`${name}${i}`, value(i)]);
    const binding = (access: typeof read) => () => access('f32');
    return [
      {
        kernel: kernel({
          label: 'mix.forward',
          bindings: Object.fromEntries([
            ...named('x', inputs, binding(read)),
            ...named('y', outputs, binding(write)),
            ...named('t', attrs.scratch, binding(write)),
          ]),
          code: '',
        }),
        bindings: Object.fromEntries<Operand>([
          ...named('x', inputs, input),
          ...named('y', outputs, output),
          ...named('t', attrs.scratch, scratch),
        ]),
        params: {},
        workgroups: [attrs.workgroups, 1, 1],
      },
    ];
  },
  cost: (_inputs, outputs) => ({ flops: outputs.length, bytes: outputs.reduce((sum, spec) => sum + bytes(spec), 0) }),
});

/** Its number of workgroups is read from its input, from element 3 on; `written`: it also writes that buffer. */
const counted = defineOp<{ written: boolean }>({
  name: 'update_counted',
  words: () => true,
  updates: [0],
  infer: () => [f32(4)],
  launches: ({ attrs: { written } }) => [
    {
      kernel: kernel({
        label: 'update_counted.forward',
        bindings: { y: write('f32'), counts: written ? write('u32') : read('u32') },
        code: '',
      }),
      bindings: { y: output(0), counts: input(0) },
      params: {},
      workgroups: [7, 1, 1],
      indirect: { operand: input(0), first: 3 },
    },
  ],
  cost: () => ({ flops: 5, bytes: 0 }),
});

/** Writes its first input while it reads its second. */
const updateMix = defineOp<NoAttributes>({
  name: 'update_mix',
  updates: [0],
  infer: () => [],
  launches: () => [
    {
      kernel: kernel({
        label: 'update_mix.forward',
        bindings: { target: write('f32'), source: read('f32') },
        code: '',
      }),
      bindings: { target: input(0), source: input(1) },
      params: {},
      workgroups: [1, 1, 1],
    },
  ],
  cost: () => ({ flops: 0, bytes: 0 }),
});

const one = (graph: Graph, inputs: readonly Tensor[], size: number): Tensor =>
  graph.one(mix, inputs, { outputs: [size], scratch: [], workgroups: 1 });

/** A graph of random nodes on random earlier tensors, some results kept, some computed tensors packed. */
function randomGraph(random: Random): { graph: Graph; kept: Tensor[] } {
  const graph = new Graph();
  const tensors = [graph.input('in', [64]), graph.parameter('w', [100]), graph.state('s', [7])];
  const some = (): number[] =>
    Array.from({ length: random.below(3) }, () => 1 + random.below(random.below(4) === 0 ? 5000 : 300));
  for (let i = 0; i < 40; i++) {
    // Mostly recent tensors, as in a network, sometimes old ones, as in its backward pass.
    const pick = (): Tensor =>
      tensors[random.below(2) ? Math.max(0, tensors.length - 1 - random.below(4)) : random.below(tensors.length)]!;
    const inputs = [...new Set(Array.from({ length: 1 + random.below(3) }, pick))];
    tensors.push(
      ...graph.add(mix, inputs, { outputs: [1 + random.below(400), ...some()], scratch: some(), workgroups: 1 }),
    );
  }
  const read = new Set(graph.nodes.flatMap(({ inputs }) => inputs));
  const results = tensors.filter((tensor) => tensor.storage === 'computed' && !read.has(tensor));
  const kept = tensors.filter((tensor) => tensor.storage === 'computed' && random.below(8) === 0);
  graph.pack(
    'results',
    results.filter(() => random.below(3) === 0),
    2 ** 16,
  );
  return { graph, kept };
}

/**
 * Runs a plan on marks instead of numbers: every launch leaves its mark in what it writes, and whoever reads must find the
 * mark of the tensor it wants. This knows nothing of lifetimes.
 */
function execute({ launches, range, graph }: Plan, kept: readonly Tensor[]): void {
  const memory = new Map<string, string>();
  const place = (tensor: Tensor): string => {
    const { buffer, offset } = range(tensor);
    return tensor.view ? `${buffer}+${offset}` : `${buffer}`;
  };
  for (const tensor of graph.tensors) if (tensor.storage !== 'computed') memory.set(place(tensor), tensor.label);
  const expect = (tensor: Tensor, reader: string): void =>
    assert.is(memory.get(place(tensor)), tensor.label, `${reader} reads ${tensor.label}`);
  for (const {
    node,
    kernel: { bindings },
    ranges,
  } of launches) {
    for (const tensor of node.inputs) expect(tensor, `node ${node.index}`);
    ranges.forEach((used, i) => {
      const name = bindings[i]?.name ?? '';
      if (name.startsWith('t')) memory.set(`${used.buffer}`, `scratch of ${node.index}`);
    });
    for (const tensor of node.outputs) memory.set(place(tensor), tensor.label);
  }
  for (const tensor of kept) expect(tensor, 'the host');
}

const slotBytes = ({ buffers }: Plan): number =>
  buffers.reduce((sum, buffer) => sum + (buffer.users.length > 0 ? buffer.bytes : 0), 0);

test('no two live tensors share a slot: 200 random graphs, executed on marks', () => {
  const random = new Random(1);
  for (let round = 0; round < 200; round++) {
    const { graph, kept } = randomGraph(random);
    const planned = plan(graph, defaultTarget, kept);
    execute(planned, kept);
    assert.ok(slotBytes(planned) <= planned.unplannedBytes, 'the plan takes more than it would without');
  }
});

test('every range holds its tensor, and a dispatch never reads and writes one buffer', () => {
  const random = new Random(2);
  for (let round = 0; round < 50; round++) {
    const { graph, kept } = randomGraph(random);
    const planned = plan(graph, defaultTarget, kept);
    for (const {
      kernel: { bindings },
      ranges,
    } of planned.launches) {
      const buffers = (access: string): number[] =>
        ranges.flatMap(({ buffer }, i) => (bindings[i]?.access === access ? [buffer] : []));
      const [reads, writes] = [buffers('read'), buffers('read_write')];
      assert.not(reads.some((buffer) => writes.includes(buffer)));
      for (const { buffer, offset, size } of ranges)
        assert.ok(size > 0 && offset % 256 === 0 && offset + size <= planned.buffers[buffer]!.bytes);
    }
    for (const node of graph.nodes)
      for (const tensor of [...node.inputs, ...node.outputs]) assert.is(planned.range(tensor).size, bytes(tensor));
  }
});

test('a chain needs two slots, whatever its length', () => {
  const graph = new Graph();
  let x = graph.input('x', [100]);
  for (let i = 0; i < 30; i++) x = one(graph, [x], 100);
  const planned = plan(graph, defaultTarget, [x]);
  assert.is(slotBytes(planned), 2 * 400);
  assert.is(planned.unplannedBytes, 30 * 400);
});

test('what is read last in the backward pass stays until then', () => {
  const graph = new Graph();
  const activations = [graph.input('x', [64])];
  for (let i = 0; i < 8; i++) activations.push(one(graph, [activations.at(-1)!], 64));
  let gradient = one(graph, [activations.at(-1)!], 64);
  for (const activation of [...activations].reverse().slice(1)) gradient = one(graph, [gradient, activation], 64);
  execute(plan(graph, defaultTarget, [gradient]), [gradient]);
});

test('kept tensors and state survive the step; the order of `kept` does not matter', () => {
  const graph = new Graph();
  const x = graph.input('x', [64]);
  const early = one(graph, [x], 64);
  let last = early;
  for (let i = 0; i < 5; i++) last = one(graph, [last], 64);
  for (const kept of [
    [early, last],
    [last, early],
  ])
    execute(plan(graph, defaultTarget, kept), kept);
  const planned = plan(graph, defaultTarget, [early]);
  const inUse = planned.launches
    .slice(1)
    .flatMap(({ ranges }) => ranges.slice(-1))
    .map(({ buffer }) => buffer);
  assert.not(inUse.includes(planned.range(early).buffer), 'a kept tensor is overwritten');
});

/** The error of `body`, which must be of `exitCode`. */
function refused(body: () => unknown, exitCode: number): string {
  try {
    body();
  } catch (error) {
    assert.instance(error, SopError);
    assert.is((error as SopError).exitCode, exitCode);
    return (error as SopError).message;
  }
  return assert.unreachable('nothing was refused') as never;
}

test('workgroups that the device counts are read where the op says, from a buffer that the dispatch does not write', () => {
  const planned = (written: boolean): Plan => {
    const graph = new Graph();
    graph.add(counted, [graph.state('counts', [6], 'u32')], { written });
    return plan(graph, defaultTarget);
  };
  const counting = planned(false);
  const { launches, range, graph } = counting;
  const { buffer } = range(graph.tensors[0]!);
  assert.is(launches[0]?.flops, 5, 'what it may do at most: by that submits are cut');
  assert.equal(dispatchFlops(counting), [0], 'nobody knows what it did: no rate is made of it');
  assert.equal(
    launches.map(({ workgroups, indirect }) => ({ workgroups, indirect })),
    [{ workgroups: [7, 1, 1], indirect: { buffer, offset: 12, size: 12 } }],
  );
  assert.match(
    refused(() => planned(true), 70),
    /uses one buffer as 'counts' and 'workgroups' and writes it/,
  );
});

test('a dispatch that reads and writes one buffer is refused with op and bindings', () => {
  const aliased = (make: (graph: Graph) => readonly [Tensor, Tensor]): (() => Plan) => {
    const graph = new Graph();
    graph.add(updateMix, make(graph), {});
    return () => plan(graph, defaultTarget);
  };
  const message = /update_mix\): update_mix.forward uses one buffer as 'target' and 'source' and writes it/;
  const itself = aliased((graph) => {
    const s = graph.state('s', [4]);
    return [s, s];
  });
  assert.match(refused(itself, 70), message);
  const ofOnePack = aliased((graph) => {
    const [a, b] = [graph.state('a', [4]), graph.state('b', [4])];
    graph.pack('both', [a, b], 1024);
    return [a, b];
  });
  assert.match(refused(ofOnePack, 70), message);
  aliased((graph) => [graph.state('a', [4]), graph.state('b', [4])])();
});

test('outputs may be written to disjoint parts of one pack in one dispatch', () => {
  const graph = new Graph();
  const outputs = graph.add(mix, [graph.input('x', [4])], { outputs: [65, 3], scratch: [], workgroups: 1 });
  const [pack] = graph.pack('gradient', outputs, 1024);
  const planned = plan(graph, defaultTarget);
  const flat = planned.range(pack!.flat);
  assert.equal(
    outputs.map((tensor) => planned.range(tensor)),
    [
      { buffer: flat.buffer, offset: 0, size: 260 },
      { buffer: flat.buffer, offset: 512, size: 12 },
    ],
  );
  assert.is(planned.unplannedBytes, 0, 'packed results are state, not temporaries');
});

test('a limit of the adapter names the tensor that exceeds it, and what to lower', () => {
  const small = { ...defaultTarget, name: 'small adapter', maxBindingBytes: 4096 };
  const graph = new Graph();
  graph.scope('student', () => one(graph, [graph.input('x', [10])], 1025));
  const message = refused(() => plan(graph, small), 69);
  assert.match(message, /student\/mix\[0\]/);
  assert.match(message, /small adapter allows 0\.0 MiB/);
  assert.match(message, /--batch-size/);

  const memory = new Graph();
  one(memory, [memory.state('memory.cls', [2000])], 1);
  assert.match(
    refused(() => plan(memory, small), 69),
    /memory\.cls/,
  );

  const tooMany = new Graph();
  tooMany.add(mix, [tooMany.input('x', [1])], { outputs: [1], scratch: [], workgroups: 65_536 });
  assert.match(
    refused(() => plan(tooMany, defaultTarget), 70),
    /65536 x 1 x 1 workgroups of mix\.forward, and 65535 in a direction/,
  );
});

test('more storage buffers than a stage can bind are refused', () => {
  const graph = new Graph();
  const inputs = Array.from({ length: 8 }, (_, i) => graph.input(`x${i}`, [4]));
  one(graph, inputs, 4);
  assert.match(
    refused(() => plan(graph, defaultTarget), 69),
    /mix\.forward binds 9 storage buffers, WebGPU defaults allows 8/,
  );
  plan(graph, { ...defaultTarget, maxStorageBuffers: 10 });
});

test('a launch without a binding or a param is refused by name', () => {
  const bad = (bindings: Readonly<Record<string, Operand>>, params: Readonly<Record<string, number>>): (() => Plan) => {
    const op = defineOp<NoAttributes>({
      name: 'bad',
      infer: ([x]): Spec[] => (x ? [x] : []),
      launches: () => [
        {
          kernel: kernel({
            label: 'bad.forward',
            bindings: { x: read('f32'), y: write('f32') },
            params: { count: 'u32' },
            code: '',
          }),
          bindings,
          params,
          workgroups: [1, 1, 1],
        },
      ],
      cost: () => ({ flops: 0, bytes: 0 }),
    });
    const graph = new Graph();
    graph.add(op, [graph.input('x', [4])], {});
    return () => plan(graph, defaultTarget);
  };
  bad({ x: input(0), y: output(0) }, { count: 1 })();
  assert.match(refused(bad({ x: input(0), z: output(0) }, { count: 1 }), 70), /nothing is bound to 'y' of bad.forward/);
  assert.match(refused(bad({ x: input(0) }, { count: 1 }), 70), /binds x where bad.forward has x,y/);
  assert.match(refused(bad({ x: input(1), y: output(0) }, { count: 1 }), 70), /nothing is bound to 'x'/);
  assert.match(refused(bad({ x: input(0), y: output(0) }, {}), 70), /param 'count' of bad.forward is undefined/);
});

test('a tensor of no buffer is refused by name, a kept one of another graph too', () => {
  const graph = new Graph();
  one(graph, [graph.input('x', [4])], 4);
  const stranger = one(new Graph(), [], 4);
  assert.match(
    refused(() => plan(graph, defaultTarget).range(stranger), 70),
    /mix\[0\]\): is in no buffer/,
  );
  assert.match(
    refused(() => plan(graph, defaultTarget, [stranger]), 70),
    /mix\[0\]/,
  );
});

test('a plan is the same every time', () => {
  const make = (): unknown => {
    const { graph, kept } = randomGraph(new Random(3));
    const { buffers, launches } = plan(graph, defaultTarget, kept);
    return [buffers.map(({ label, bytes: size }) => [label, size]), launches.map(({ ranges }) => ranges)];
  };
  assert.equal(make(), make());
});

test.run();
