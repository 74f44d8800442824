import { Graph } from '../src/graph/graph.js';
import { halfToNumber, numberToHalf, packHalves } from '../src/graph/half.js';
import type { Attributes, Scalar } from '../src/graph/op.js';
import { bytes, elements, type Tensor } from '../src/graph/tensor.js';
import type { Elements, Replay } from '../src/plan/replay.js';
import { type Case, type CaseInput, Random, type Values } from './declare.js';
import type { AnyOpTest } from './interpreter.js';

/** A case of an op as a graph: its node, and if it has a derivative the nodes of that, fed with random output gradients. */
export interface Traced {
  readonly graph: Graph;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly outputGradients: ReadonlyMap<number, Tensor>;
  readonly inputGradients: ReadonlyMap<number, Tensor>;
  readonly scalars: ReadonlyMap<Scalar, number>;
}

/** `layernorm [65,197] [197]`: names a case in messages. */
export function showCase(test: AnyOpTest, { inputs }: Case<Attributes>): string {
  return `${test.op.name} ${inputs.map(({ shape, dtype }) => `${dtype === 'f16' ? 'f16 ' : ''}[${shape}]`).join(' ')}`;
}

/** A case with all the inputs in f16 that the op takes so. */
export function inHalf({ op: { halves = [] } }: AnyOpTest, { inputs, attrs }: Case<Attributes>): Case<Attributes> {
  return { inputs: inputs.map((input, i) => (halves.includes(i) ? { ...input, dtype: 'f16' } : input)), attrs };
}

/** The cases of an op in f16: all of them where it takes inputs so, and those that it declares. */
export function halfCases(test: AnyOpTest): readonly Case<Attributes>[] {
  const { op, cases, halfCases: declared = [] } = test;
  return op.halves ? [...cases.map((testCase) => inHalf(test, testCase)), ...declared] : declared;
}

/** Values as f16 holds them. */
export const roundHalf = (values: Values): Values => values.map((value) => halfToNumber(numberToHalf(value)));

/** Elements that are drawn; a larger tensor repeats them, at a prime distance that fits no shape. */
const DRAWN = 262_139;

/** Elements of a test input, rounded to what the device will hold. */
export function draw({ shape, dtype = 'f32', fill = 'normal' }: CaseInput, random: Random): Values {
  const count = elements({ shape });
  const values = typeof fill === 'function' ? Float64Array.from(fill(random)) : new Float64Array(count);
  if (values.length !== count) throw new Error(`fill returned ${values.length} of ${count} elements`);
  if (typeof fill === 'string') {
    const next = fill === 'uniform' ? () => random.uniform() : () => random.normal();
    for (let i = 0; i < count; i++) values[i] = i < DRAWN ? next() : values[i - DRAWN]!;
  }
  if (fill === 'unit-rows') {
    const width = shape.at(-1) ?? 1;
    for (let row = 0; row < count; row += width) {
      let squares = 0;
      for (let i = row; i < row + width; i++) squares += values[i]! ** 2;
      for (let i = row; i < row + width; i++) values[i]! /= Math.sqrt(squares);
    }
  }
  if (dtype === 'f16') return roundHalf(values);
  return dtype === 'f32' ? Float64Array.from(Float32Array.from(values)) : values;
}

/** The graph of a case, with the gradient nodes that its declaration asks for. */
export function trace(test: AnyOpTest, testCase: Case<Attributes>): Traced {
  const graph = new Graph();
  const scalars = new Map<Scalar, number>();
  const attrs =
    typeof testCase.attrs === 'function'
      ? testCase.attrs((name, value, dtype = 'f32') => {
          const scalar = graph.scalar(name, dtype);
          scalars.set(scalar, dtype === 'f32' ? Math.fround(value) : value);
          return scalar;
        })
      : testCase.attrs;
  const inputs = testCase.inputs.map(({ shape, dtype = 'f32' }, i) =>
    test.op.updates?.includes(i) ? graph.state(`input.${i}`, shape, dtype) : graph.input(`input.${i}`, shape, dtype),
  );
  const outputs = graph.add(test.op, inputs, attrs);
  const outputGradients = new Map<number, Tensor>();
  const inputGradients = new Map<number, Tensor>();
  const { gradient } = test;
  const node = graph.nodes[0];
  if (gradient && test.op.derivative && node) {
    const grads = outputs.map((tensor, i) => {
      if (!gradient.outputs.includes(i)) return null;
      const given = graph.input(`d_output.${i}`, tensor.shape, tensor.dtype);
      outputGradients.set(i, given);
      return given;
    });
    const needs = inputs.map((_, i) => gradient.inputs.includes(i));
    test.op.derivative(graph, node, grads, needs).forEach((tensor, i) => {
      if (tensor && needs[i]) inputGradients.set(i, tensor);
    });
    for (const i of gradient.inputs)
      if (!inputGradients.has(i)) throw new Error(`${test.op.name}: no gradient for input ${i}`);
  }
  return { graph, inputs, outputs, outputGradients, inputGradients, scalars };
}

/** Draws all inputs of a traced case, the same numbers for the same case. */
export function drawAll(traced: Traced, testCase: Case<Attributes>): Map<Tensor, Values> {
  const random = new Random(20250713);
  const values = new Map<Tensor, Values>();
  traced.inputs.forEach((tensor, i) => {
    const declared = testCase.inputs[i];
    if (declared) values.set(tensor, draw(declared, random));
  });
  for (const tensor of traced.outputGradients.values()) values.set(tensor, draw(tensor, random));
  return values;
}

/** Values in the element type of a tensor. */
export function toElements({ shape, dtype }: Tensor, values: ArrayLike<number>): Elements {
  if (dtype === 'f16') return packHalves(Float32Array.from(values), bytes({ shape, dtype }));
  if (dtype === 'f32') return Float32Array.from(values);
  return dtype === 'u32' ? Uint32Array.from(values) : Int32Array.from(values);
}

/** NaN as f32 and as two f16. */
export const NAN_BITS = 0x7fc17e5d;

/** Fills all buffers with NaN, so that a kernel that does nothing is found out, then writes inputs and scalars. */
export function prepare(replay: Replay, { scalars }: Traced, values: ReadonlyMap<Tensor, Values>): void {
  const { plan, buffers, gpu } = replay.compiled;
  plan.buffers.forEach(({ bytes, group }, i) => {
    const buffer = buffers[i];
    if (buffer && group !== 'constant')
      gpu.device.queue.writeBuffer(buffer, 0, new Uint32Array(bytes / 4).fill(NAN_BITS));
  });
  for (const [tensor, data] of values) replay.write(tensor, toElements(tensor, data));
  for (const [scalar, value] of scalars) replay.setScalar(scalar, value);
}
