import { matmulSubgroupTileKernel } from '../../dist/shaders/matmul.wgsl.js';
import { differentiate } from '../../dist/src/graph/differentiate.js';
import { Graph } from '../../dist/src/graph/graph.js';
import { defineOp, input, output } from '../../dist/src/graph/op.js';
import { f32 } from '../../dist/src/graph/tensor.js';
import { encode } from '../../dist/src/nn/vit.js';
import { add } from '../../dist/src/ops/add.js';
import { attention } from '../../dist/src/ops/attention.js';
import { crossEntropy } from '../../dist/src/ops/cross_entropy.js';
import { layernorm } from '../../dist/src/ops/layernorm.js';
import { matmul, productLaunches } from '../../dist/src/ops/matmul.js';
import { neighbours } from '../../dist/src/ops/neighbours.js';
import { softmax } from '../../dist/src/ops/softmax.js';
import { sopProbabilities } from '../../dist/src/ops/sop_probabilities.js';
import { weightedSum } from '../../dist/src/ops/weighted_sum.js';
import { compile } from '../../dist/src/plan/compile.js';
import { plan } from '../../dist/src/plan/plan.js';
import { Replay } from '../../dist/src/plan/replay.js';
import { EPS, VIT } from './works.js';

/** A loss whose gradient is given: `derivative` hands it on, and nothing is launched. */
const given = defineOp({
  name: 'given_gradient',
  infer: () => [f32(1)],
  launches: () => [],
  derivative: (_graph, { inputs: [, cotangent] }) => [cotangent, null],
  cost: () => ({ flops: 0, bytes: 0 }),
});

/** The graph of each work, and its results. */
const builders = {
  matmul: (graph, tensors, { transA, transB }) => [graph.one(matmul, [tensors.a, tensors.b], { transA, transB })],
  softmax: (graph, { x }) => [graph.one(softmax, [x], {})],
  layernorm: (graph, { x, gamma, beta }) => graph.add(layernorm, [x, gamma, beta], { eps: EPS }),
  attention: (graph, { qkv }, { sequences: count, length }) =>
    graph.add(attention, [qkv], { heads: 1, segments: [{ count, length }] }),
  neighbours(graph, { memory }, { k, anchors }) {
    const rows = graph.constant(
      'anchors',
      [anchors],
      Uint32Array.from({ length: anchors }, (_, i) => i),
    );
    // Without the anchor itself, which our search leaves out.
    return [graph.add(neighbours, [memory, rows], { k: k - 1, search: 'all' })[1]];
  },
  encoder(graph, { images, cotangent, ...parameters }, { backward }) {
    const { tokens } = encode(graph, VIT, new Map(Object.entries(parameters)), { images: [images] });
    if (!backward) return [tokens];
    const loss = graph.one(given, [tokens, cotangent], {});
    const gradients = differentiate(graph, loss, Object.values(parameters), add);
    return [gradients[Object.keys(parameters).indexOf('blocks.0.attn.qkv.weight')], ...gradients];
  },
  sop_head(
    graph,
    { student, teacher, support, shares },
    { images, views, members, studentTemp, teacherTemp },
    scalars,
  ) {
    const [tau, sharp] = [graph.scalar('student_temp'), graph.scalar('teacher_temp')];
    scalars.push([tau, studentTemp], [sharp, teacherTemp]);
    const [ours] = graph.add(sopProbabilities, [student, support, shares], { members, temperature: tau });
    const [theirs] = graph.add(sopProbabilities, [teacher, support, shares], { members, temperature: sharp });
    const loss = graph.one(crossEntropy, [ours, theirs, ...partners(graph, images, views)], {});
    return differentiate(graph, loss, [student], add);
  },
};

/** Parts of Y's columns: no part exceeds what an adapter binds by WebGPU's defaults. */
const Y_PARTS = 8;

/** The SOP head as products with Y written out, all of them by our kernels: what the structure of Y saves. */
const denseBuilders = {
  sop_head(graph, { student, teacher, student_keys, teacher_keys, ...parts }, { images, views }) {
    const votes = (u, keys) => graph.one(softmax, [graph.one(matmul, [u, keys], { transA: false, transB: true })], {});
    const [ours, theirs] = [votes(student, student_keys), votes(teacher, teacher_keys)];
    const pairs = partners(graph, images, views);
    // The loss is a sum over prototypes, so each part of Y has its share of it.
    const losses = Array.from({ length: Y_PARTS }, (_, i) => {
      const [p, target] = [ours, theirs].map((of) =>
        graph.one(matmul, [of, parts[`y${i}`]], { transA: false, transB: false }),
      );
      return graph.one(crossEntropy, [p, target, ...pairs], {});
    });
    const loss = graph.one(weightedSum, losses, { weights: losses.map(() => 1) });
    return differentiate(graph, loss, [student], add);
  },
};

/**
 * The product with the tile of the project's first prototype: 32 rows, 8 columns a lane, a store after each step, numbers loaded
 * one by one. What has been gained since then is the ratio to this, on whatever machine.
 */
const plainProduct = defineOp({
  name: 'plain_product',
  infer: (_, { rows, columns }) => [f32(rows, columns)],
  launches({ attrs: { transA, transB, rows, inner, columns }, target }) {
    const lanes = target.subgroupSize;
    const [sums, types] = [false, { operands: 'f32', y: 'f32' }];
    const tile = { lanes, rows: 32, columns: 8, unroll: 1, a: 'one', b: 'one', quads: false, sums, types };
    const tiling = {
      kernel: () => matmulSubgroupTileKernel(tile),
      tileRows: 32,
      tileColumns: 8 * lanes,
      splits: 1,
      span: inner,
    };
    const operands = { a: input(0), b: input(1), bias: input(0), y: output(0) };
    return productLaunches({ transA, transB, rows, inner, columns, batch: 1, sums, types, operands }, tiling, target);
  },
  cost: (_, __, { rows, inner, columns }) => ({ flops: 2 * rows * inner * columns, bytes: 0 }),
});

/** Y [J, K] in parts, and the support embeddings divided by each temperature. */
function dense({ student, teacher, support, shares }, { sops, members, studentTemp, teacherTemp }) {
  const [rows, columns] = [sops * members, sops / Y_PARTS];
  const part = (i) => {
    const data = new Float32Array(rows * columns);
    shares.data.forEach((share, j) => {
      data.fill((1 - share) / (sops - 1), j * columns, (j + 1) * columns);
      const own = Math.floor(j / members) - i * columns;
      if (own >= 0 && own < columns) data[j * columns + own] = share;
    });
    return { shape: [rows, columns], data };
  };
  const over = (temperature) => ({ ...support, data: support.data.map((value) => value / temperature) });
  return {
    student,
    teacher,
    student_keys: over(studentTemp),
    teacher_keys: over(teacherTemp),
    ...Object.fromEntries(Array.from({ length: Y_PARTS }, (_, i) => [`y${i}`, part(i)])),
  };
}

/** Teacher rows that each student row is held against: both views of its image, but never itself; and its weight. */
function partners(graph, images, views) {
  const none = 0xffffffff;
  const pairs = Uint32Array.from({ length: 2 * views * images }, (_, at) => {
    const [row, view] = [at >> 1, at % 2];
    return Math.floor(row / images) === view ? none : view * images + (row % images);
  });
  const weights = new Float32Array(views * images).fill(1 / (images * (2 * views - 2)));
  return [graph.constant('partners', [views * images, 2], pairs), graph.constant('weights', [views * images], weights)];
}

/** q, k, v [S, L, W] side by side, as our attention reads them. */
function interleaved({ q, k, v }) {
  const [sequences, length, width] = q.shape;
  const data = new Float32Array(3 * q.data.length);
  for (let row = 0; row < sequences * length; row++) {
    [q, k, v].forEach((part, i) => {
      data.set(part.data.subarray(row * width, (row + 1) * width), (3 * row + i) * width);
    });
  }
  return { qkv: { shape: [sequences * length, 3 * width], data } };
}

/** sop-gpu as one of the peers. */
export const makeOurs = (gpu) => makePeer(gpu, 'ours', builders, { attention: interleaved });

/** What some works take without the structure that sop-gpu makes use of. */
export const makeDense = (gpu) => makePeer(gpu, 'ours-dense', denseBuilders, { sop_head: dense });

/** Products without what they have learnt; on adapters whose subgroups have a fixed size, which the tile needs. */
export function makePlain(gpu) {
  const builders = { matmul: (graph, { a, b }, settings) => [graph.one(plainProduct, [a, b], settings)] };
  return makePeer(gpu, 'plain', gpu.target.subgroupSize > 0 ? builders : {}, {});
}

/** @param arranged inputs of a work as its builder wants them, where that is not as the work has them. */
function makePeer(gpu, name, builders, arranged) {
  return {
    name,
    async prepare(work, drawn) {
      if (!builders[work.op]) return null;
      const inputs = arranged[work.op]?.(drawn, work.settings) ?? drawn;
      const graph = new Graph();
      const scalars = [];
      const tensors = Object.fromEntries(
        Object.entries(inputs).map(([name, { shape }]) => [name, graph.input(name, shape)]),
      );
      const results = builders[work.op](graph, tensors, work.settings, scalars);
      const replay = new Replay(await compile(gpu, plan(graph, gpu.target, results)));
      for (const [name, tensor] of Object.entries(tensors)) {
        if (graph.nodes.some((node) => node.inputs.includes(tensor))) replay.write(tensor, inputs[name].data);
      }
      for (const [scalar, value] of scalars) replay.setScalar(scalar, value);
      await replay.warmUp();
      const { buffer, offset } = placeOf(replay, results[0]);
      const staging = gpu.device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      return {
        launch: () => void replay.run(),
        async wait() {
          const encoder = gpu.device.createCommandEncoder();
          encoder.copyBufferToBuffer(buffer, offset, staging, 0, 4);
          gpu.device.queue.submit([encoder.finish()]);
          await staging.mapAsync(GPUMapMode.READ);
          staging.unmap();
          gpu.check();
        },
        result: () => replay.read(results[0]),
        dispose() {
          staging.destroy();
          replay.destroy();
        },
      };
    },
  };
}

function placeOf({ compiled }, tensor) {
  const { buffer, offset } = compiled.plan.range(tensor);
  return { buffer: compiled.buffers[buffer], offset };
}
