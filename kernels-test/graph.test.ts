import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { differentiate } from '../src/graph/differentiate.js';
import { Graph } from '../src/graph/graph.js';
import { SCALAR_SLOTS } from '../src/graph/kernel.js';
import { defineOp, misfit, type NoAttributes, type Op } from '../src/graph/op.js';
import { elements, f32, like, sameShape, type Tensor } from '../src/graph/tensor.js';
import { add } from '../src/ops/add.js';
import { addTests } from './add.js';
import { opTest } from './declare.js';
import { type AnyOpTest, Interpreter } from './interpreter.js';

const nothing = { launches: () => [], cost: () => ({ flops: 0, bytes: 0 }) };

/** y = a b, element by element: an op without kernels, for graphs that are only interpreted. */
const multiply: Op<NoAttributes> = defineOp<NoAttributes>({
  ...nothing,
  name: 'multiply',
  infer([a, b]) {
    if (!a || !b || !sameShape(a.shape, b.shape)) {
      throw misfit('multiply', { a, b }, 'one shape');
    }
    return [f32(...a.shape)];
  },
  derivative: (graph, { inputs: [a, b] }, [dy], needs) => [
    needs[0] && dy && b ? graph.one(multiply, [dy, b], {}) : null,
    needs[1] && dy && a ? graph.one(multiply, [dy, a], {}) : null,
  ],
});

/** Sum and mean of all elements, as two outputs. */
const totals = defineOp<NoAttributes>({
  ...nothing,
  name: 'totals',
  infer: () => [f32(1), f32(1)],
  derivative(graph, { inputs: [x] }, [dsum, dmean]) {
    const spread = (gradient: Tensor | null | undefined, scale: number): Tensor | null =>
      gradient && x ? graph.one(fill, [gradient], { scale, shape: x.shape }) : null;
    const [a, b] = [spread(dsum, 1), spread(dmean, 1 / elements(x))];
    return [a && b ? graph.one(add, [a, b], {}) : (a ?? b)];
  },
});

const fill = defineOp<{ readonly scale: number; readonly shape: readonly number[] }>({
  ...nothing,
  name: 'fill',
  infer: (_inputs, { shape }) => [f32(...shape)],
});

const opaque = defineOp<NoAttributes>({ ...nothing, name: 'opaque', infer: ([x]) => [like(x)] });
const wrong = defineOp<NoAttributes>({
  ...nothing,
  name: 'wrong',
  infer: () => [f32(1)],
  derivative: (_graph, _node, [dy]) => [dy ?? null],
});
const updateNothing = defineOp<NoAttributes>({ ...nothing, name: 'update_nothing', infer: () => [], updates: [0] });

const references = [
  ...addTests,
  opTest({
    op: multiply,
    reference: ({ inputs: [a, b] }) => [a!.map((value, i) => value * b![i]!)],
    cases: [],
    tolerance: () => 0,
  }),
  opTest({
    op: totals,
    reference: ({ inputs: [x] }) => {
      const sum = x!.reduce((total, value) => total + value, 0);
      return [Float64Array.of(sum), Float64Array.of(sum / x!.length)];
    },
    cases: [],
    tolerance: () => 0,
  }),
  opTest({
    op: fill,
    reference: ({ inputs: [x], attrs: { scale, shape } }) => [
      new Float64Array(elements({ shape })).fill(scale * x![0]!),
    ],
    cases: [],
    tolerance: () => 0,
  }),
] as readonly unknown[] as readonly AnyOpTest[];

test('an op that is refused names itself and the shapes', () => {
  const graph = new Graph();
  const [a, b] = [graph.input('a', [2, 3]), graph.input('b', [3, 2])];
  assert.throws(
    () => graph.add(multiply, [a, b], {}),
    /refused \(multiply\): a f32 \[2, 3\], b f32 \[3, 2\]; expected one shape;/,
  );
  assert.throws(() => graph.add(multiply, [a], {}), /multiply.*a f32 \[2, 3\], b missing; expected/);
  assert.is(graph.nodes.length, 0, 'a refused op leaves no node');
});

test('a tensor of another graph is refused by name', () => {
  const stranger = new Graph().input('stranger', [1]);
  assert.throws(() => new Graph().add(totals, [stranger], {}), /totals\): input stranger belongs to another graph/);
});

test('only state changes, and only through ops that say so in their name', () => {
  const graph = new Graph();
  graph.add(updateNothing, [graph.state('s', [1])], {});
  graph.add(updateNothing, [graph.parameter('p', [1])], {});
  assert.throws(() => graph.add(updateNothing, [graph.input('x', [1])], {}), /changes x, which is input and not state/);
  const computed = graph.one(multiply, [graph.input('y', [1]), graph.input('z', [1])], {});
  assert.throws(() => graph.add(updateNothing, [computed], {}), /multiply\[2\], which is computed/);
  assert.throws(() => defineOp({ ...updateNothing, name: 'sneaky' }), /sneaky.*not named update_/);
});

test('shapes and constants are checked when they are declared', () => {
  const graph = new Graph();
  for (const shape of [[], [0], [2, -1], [1.5], [Number.NaN]])
    assert.throws(() => graph.input('bad', shape), /bad.*positive whole numbers/);
  assert.throws(() => graph.constant('c', [2, 2], new Float32Array(3)), /c\): 3 numbers for shape \[2, 2\]/);
  assert.is(graph.constant('i', [1], Int32Array.of(-1)).dtype, 'i32');
  assert.is(graph.constant('u', [1], Uint32Array.of(1)).dtype, 'u32');
  assert.throws(() => graph.one(totals, [graph.input('x', [2])], {}), /totals\): has not exactly one output/);
  assert.throws(() => graph.pair(opaque, [graph.input('z', [2])], {}), /opaque\): has not exactly two outputs/);
});

test('a scalar is one by its name, and there is a limit', () => {
  const graph = new Graph();
  assert.is(graph.scalar('lr'), graph.scalar('lr'));
  assert.throws(() => graph.scalar('lr', 'u32'), /lr.*f32.*u32/);
  for (let i = 1; i < SCALAR_SLOTS; i++) assert.is(graph.scalar(`s${i}`, 'u32').slot, i);
  assert.throws(() => graph.scalar('one more'), /more than 32 scalars/);
});

test('scopes nest, end with an error, and gradients carry the scope of their node', () => {
  const graph = new Graph();
  const w = graph.parameter('w', [3]);
  const y = graph.scope('student', () =>
    graph.scope('blocks.0', () => graph.one(multiply, [w, graph.input('x', [3])], {})),
  );
  assert.is(y.label, 'student.blocks.0/multiply[0]');
  assert.throws(() => graph.scope('lost', () => graph.add(multiply, [w], {})));
  const [sum] = graph.pair(totals, [y], {});
  assert.is(graph.nodes[1]?.scope, '');
  differentiate(graph, sum, [w], add);
  assert.equal(
    graph.nodes.slice(2).map(({ op, scope }) => [op.name, scope]),
    [
      ['fill', ''],
      ['multiply', 'student.blocks.0'],
    ],
  );
});

test('a tensor that is used in several places has the sum of their gradients', () => {
  const graph = new Graph();
  const [a, b, x] = [graph.parameter('a', [5]), graph.parameter('b', [5]), graph.input('x', [5])];
  const unused = graph.parameter('unused', [2]);
  // sum(a a b + a x) + mean(a a b + a x): a is used three times, one of them twice in one node.
  const product = graph.one(multiply, [graph.one(multiply, [a, a], {}), b], {});
  const y = graph.one(add, [product, graph.one(multiply, [a, x], {})], {});
  const [sum, mean] = graph.pair(totals, [y], {});
  const loss = graph.one(add, [sum, mean], {});
  const gradients = differentiate(graph, loss, [a, unused, b], add);
  assert.is(gradients[1], null);

  const interpreter = new Interpreter(graph, references);
  const [va, vb, vx] = [
    [1, -2, 3, 0.5, 0],
    [2, 1, -1, 4, 7],
    [3, 1, 4, 1, 5],
  ] as const;
  for (const [tensor, values] of [
    [a, va],
    [b, vb],
    [x, vx],
  ] as const)
    interpreter.set(tensor, values);
  interpreter.run();
  const scale = 1 + 1 / 5;
  const close = (got: Tensor | null | undefined, expected: readonly number[]): void =>
    interpreter.get(got!).forEach((value, i) => {
      assert.ok(Math.abs(value - expected[i]!) < 1e-12, `element ${i}: ${value}, expected ${expected[i]}`);
    });
  close(
    gradients[0],
    va.map((value, i) => scale * (2 * value * vb[i]! + vx[i]!)),
  );
  close(
    gradients[2],
    va.map((value) => scale * value * value),
  );
});

test('gradients are traced only where a parameter needs them', () => {
  const graph = new Graph();
  const [w, x] = [graph.parameter('w', [3]), graph.input('x', [3])];
  const metric = graph.one(opaque, [w], {});
  const constantBranch = graph.one(opaque, [graph.one(multiply, [x, x], {})], {});
  const [loss] = graph.pair(totals, [graph.one(multiply, [w, constantBranch], {})], {});
  const before = graph.nodes.length;
  const [gradient] = differentiate(graph, loss, [w], add);
  assert.equal(
    graph.nodes.slice(before).map(({ op }) => op.name),
    ['fill', 'multiply'],
  );
  assert.is(gradient, graph.nodes.at(-1)?.outputs[0]);
  assert.is(metric.storage, 'computed');
});

test('a loss that cannot be differentiated says where', () => {
  const graph = new Graph();
  const w = graph.parameter('w', [3]);
  assert.throws(
    () => differentiate(graph, graph.one(multiply, [w, w], {}), [w], add),
    /loss multiply\[0\] has shape \[3\], not \[1\]/,
  );
  const [hidden] = graph.pair(totals, [graph.one(opaque, [w], {})], {});
  assert.throws(() => differentiate(graph, hidden, [w], add), /opaque\): has no derivative/);
  const misshapen = graph.one(wrong, [w], {});
  assert.throws(() => differentiate(graph, misshapen, [w], add), /wrong\): gradient \[1\] of input w \[3\]/);
});

test('a parameter that is the loss has the gradient 1', () => {
  const graph = new Graph();
  const w = graph.parameter('w', [1]);
  const [gradient] = differentiate(graph, w, [w], add);
  assert.equal(gradient?.data, Float32Array.of(1));
});

test('packs place tensors one behind the other, aligned, and split at a limit', () => {
  const graph = new Graph();
  const members = [1, 64, 65, 197].map((size, i) => graph.parameter(`p${i}`, [size]));
  const packs = graph.pack('flat', members, 320);
  assert.equal(
    packs.map(({ flat }) => [flat.label, flat.shape, flat.storage]),
    [
      ['flat.0', [256], 'state'],
      ['flat.1', [256], 'state'],
    ],
  );
  assert.equal(
    members.map(({ view }) => [view?.of.label, view?.offset]),
    [
      ['flat.0', 0],
      ['flat.0', 64],
      ['flat.0', 128],
      ['flat.1', 0],
    ],
  );
  assert.throws(() => graph.pack('again', [members[0]!], 320), /again\): p0 is packed already/);
  assert.throws(() => graph.pack('small', [graph.parameter('big', [1000])], 320), /big alone has 1024 of at most 320/);
  assert.throws(() => graph.pack('mixed', [graph.state('index', [4], 'u32')], 320), /index.*u32/);
});

test.run();
