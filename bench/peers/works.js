import { Random } from '../../dist/kernels-test/declare.js';
import { vitSpecs } from '../../dist/src/nn/vit.js';

/**
 * What the peers are given to do: the same numbers to each, and what must come out.
 *
 * A work has `inputs` (name: { shape, data }), `settings`, `flops` by formula, and `expected(inputs)`: [place, value] pairs
 * computed in float64 with plain loops; null where sop-gpu's own result, checked elsewhere, is what the others must meet. It
 * may have a `tolerance` of its own, in units of the result's RMS.
 * @typedef {{ shape: number[], data: Float32Array }} Input
 */

/** @type {(random: Random, shape: number[], scale?: number) => Input} */
function normal(random, shape, scale = 1) {
  const size = shape.reduce((product, side) => product * side, 1);
  return { shape, data: Float32Array.from({ length: size }, () => scale * random.normal()) };
}

/** Rows whose similarities are exact in f32: every element is +-1/16. */
function signs(random, shape) {
  const size = shape.reduce((product, side) => product * side, 1);
  return { shape, data: Float32Array.from({ length: size }, () => (random.uniform() < 0.5 ? -1 / 16 : 1 / 16)) };
}

/** Some places of a result: both ends, and others between. */
const places = (size) => [0, size - 1, ...Array.from({ length: 62 }, (_, i) => Math.floor((i + 0.5) * (size / 62)))];

function product(rows, inner, columns, transA, transB) {
  const form = `${transA ? 'T' : 'N'}${transB ? 'T' : 'N'}`;
  return {
    op: 'matmul',
    pass: 'forward',
    shape: `${rows}x${inner}x${columns}:${form}`,
    settings: { transA, transB, rows, inner, columns },
    inputs: (random) => ({
      a: normal(random, transA ? [inner, rows] : [rows, inner]),
      b: normal(random, transB ? [columns, inner] : [inner, columns]),
    }),
    flops: 2 * rows * inner * columns,
    expected: ({ a, b }) =>
      places(rows * columns).map((at) => {
        const [row, column] = [Math.floor(at / columns), at % columns];
        let sum = 0;
        for (let k = 0; k < inner; k++)
          sum +=
            a.data[transA ? k * rows + row : row * inner + k] *
            b.data[transB ? column * inner + k : k * columns + column];
        return [at, sum];
      }),
  };
}

/** @param {(x: Float32Array, at: number) => number} value of element `at` of a row */
function rowwise(op, rows, width, flops, value) {
  return {
    op,
    pass: 'forward',
    shape: `${rows}x${width}`,
    settings: {},
    inputs: (random) => ({
      x: normal(random, [rows, width]),
      gamma: normal(random, [width]),
      beta: normal(random, [width]),
    }),
    flops: flops * rows * width,
    expected: ({ x, gamma, beta }) =>
      places(rows * width).map((at) => {
        const row = Math.floor(at / width);
        return [at, value(x.data.subarray(row * width, (row + 1) * width), at % width, gamma.data, beta.data)];
      }),
  };
}

function softmaxAt(x, at) {
  const most = x.reduce((a, b) => Math.max(a, b));
  return Math.exp(x[at] - most) / x.reduce((sum, value) => sum + Math.exp(value - most), 0);
}

/** The eps of timm's norms. */
export const EPS = 1e-6;

function normAt(x, at, gamma, beta) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return ((x[at] - mean) / Math.sqrt(variance + EPS)) * gamma[at] + beta[at];
}

function attention(sequences, length, width) {
  const shape = [sequences, length, width];
  return {
    op: 'attention',
    pass: 'forward',
    shape: shape.join('x'),
    settings: { sequences, length, width },
    inputs: (random) => ({ q: normal(random, shape), k: normal(random, shape), v: normal(random, shape) }),
    flops: sequences * length * length * (4 * width + 5),
    expected: ({ q, k, v }) =>
      places(sequences * length * width).map((at) => {
        const row = Math.floor(at / width);
        const first = Math.floor(row / length) * length;
        const scores = Float64Array.from({ length }, (_, j) => {
          let sum = 0;
          for (let c = 0; c < width; c++) sum += q.data[row * width + c] * k.data[(first + j) * width + c];
          return sum / Math.sqrt(width);
        });
        return [
          at,
          scores.reduce((sum, _, j) => sum + softmaxAt(scores, j) * v.data[(first + j) * width + (at % width)], 0),
        ];
      }),
  };
}

/** The k largest similarities of each anchor; an anchor is a row of the memory and finds itself among them. */
function search(anchors, rows, width, k) {
  return {
    op: 'neighbours',
    pass: 'forward',
    shape: [anchors, rows, width, k].join('x'),
    settings: { k, anchors, rows, width },
    inputs: (random) => ({ memory: signs(random, [rows, width]) }),
    flops: 2 * anchors * rows * width,
    expected: ({ memory }) =>
      [0, 1, anchors - 1].flatMap((anchor) => {
        const scores = Array.from({ length: rows }, (_, row) => {
          let sum = 0;
          for (let c = 0; c < width; c++) sum += memory.data[anchor * width + c] * memory.data[row * width + c];
          return sum;
        });
        // The anchor itself is first, and not among what is compared.
        const best = scores.toSpliced(anchor, 1).sort((a, b) => b - a);
        return best.slice(0, k - 1).map((score, i) => [anchor * (k - 1) + i, score]);
      }),
  };
}

/** Scores of a search that found the anchor itself too, which comes first, in the form of `expected`. */
export const withoutSelf = (scores, k) => scores.filter((_, i) => i % k > 0);

/** ViT-S/16 at 224 pixels, its usual size. */
export const VIT = {
  width: 384,
  depth: 12,
  heads: 6,
  mlpRatio: 4,
  patch: 16,
  channels: 3,
  imageSize: 224,
  initStd: 0.02,
};

/** Encoder from pixels to normed tokens; `backward` adds the gradient of every weight for a given one of the tokens. */
function encoder(batch, backward) {
  const length = 1 + (VIT.imageSize / VIT.patch) ** 2;
  const weights = vitSpecs(VIT).filter(({ graphShape }) => graphShape.length === 2 && graphShape[0] !== length);
  const products =
    weights.reduce((sum, { graphShape: [rows, columns] }) => sum + 2 * rows * columns, 0) * batch * length;
  const scores = VIT.depth * batch * VIT.heads * length * length * (4 * (VIT.width / VIT.heads) + 5);
  return {
    op: 'encoder',
    pass: backward ? 'backward' : 'forward',
    shape: `ViT-S, batch ${batch}`,
    settings: { batch, backward, length },
    inputs: (random) => ({
      images: normal(random, [batch, VIT.channels, VIT.imageSize, VIT.imageSize]),
      cotangent: normal(random, [batch * length, VIT.width]),
      ...Object.fromEntries(
        vitSpecs(VIT).map(({ name, graphShape }) => {
          // As after some training: norms near 1, products that keep the size of what goes through them.
          const fan = graphShape.length > 1 ? graphShape[1] : 1;
          const input = normal(random, [...graphShape], graphShape.length > 1 ? 1 / Math.sqrt(fan) : 0.1);
          return [
            name,
            /norm\d?\.weight$/.test(name) ? { ...input, data: input.data.map((value) => 1 + value) } : input,
          ];
        }),
      ),
    }),
    // What a network of 12 blocks makes of sums of up to some thousand terms in f32, in whatever order.
    tolerance: 1e-3,
    // The gradients are two products of the same size for each of the forward pass, scores recomputed not counted.
    flops: backward ? 3 * (products + scores) : products + scores,
    expected: null,
  };
}

/** The head of the [CLS] task at the size of the ViT-S run: 64 images, 12 views for the student and 2 for the teacher. */
function sopHead() {
  const [images, views, sops, members, width] = [64, 12, 4096, 9, 256];
  const unit = (random, shape) => {
    const input = normal(random, shape);
    for (let row = 0; row < input.data.length; row += width) {
      const norm = Math.hypot(...input.data.subarray(row, row + width));
      for (let i = row; i < row + width; i++) input.data[i] /= norm;
    }
    return input;
  };
  const support = sops * members;
  const settings = { images, views, sops, members, width, studentTemp: 0.1, teacherTemp: 0.04 };
  return {
    op: 'sop_head',
    pass: 'backward',
    shape: `${views * images} and ${2 * images} x ${sops}x${members}x${width}`,
    settings,
    inputs: (random) => ({
      student: unit(random, [views * images, width]),
      teacher: unit(random, [2 * images, width]),
      support: unit(random, [support, width]),
      shares: { shape: [support], data: Float32Array.from({ length: support }, () => 0.2 + 0.7 * random.uniform()) },
    }),
    // Logits of both, their gradient's product for the student; the rest is a few operations an element.
    flops: 2 * support * width * (2 * views * images + 2 * images),
    expected: (inputs) => places(views * images * width).map((at) => [at, sopGradientAt(inputs, settings, at)]),
  };
}

/** Element `at` of d loss / d student: the cross-entropy of P(student) to the P(teacher) of the image's other views. */
function sopGradientAt({ student, teacher, support, shares }, settings, at) {
  const { images, views, sops, members, width, studentTemp, teacherTemp } = settings;
  const [row, column] = [Math.floor(at / width), at % width];
  const [view, image] = [Math.floor(row / images), row % images];
  const others = Float64Array.from(shares.data, (share) => (1 - share) / (sops - 1));
  /** The softmax over all support rows, and P: a row's contribution is `share` to its own prototype, `others` to the rest. */
  const probabilities = (u, of, temperature) => {
    const logits = Float64Array.from(shares.data, (_, j) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += u.data[of * width + c] * support.data[j * width + c];
      return sum / temperature;
    });
    const most = logits.reduce((a, b) => Math.max(a, b));
    const weights = logits.map((logit) => Math.exp(logit - most));
    const total = weights.reduce((a, b) => a + b);
    const votes = weights.map((weight) => weight / total);
    const spread = votes.reduce((sum, vote, j) => sum + vote * others[j], 0);
    const p = new Float64Array(sops).fill(spread);
    votes.forEach((vote, j) => {
      p[Math.floor(j / members)] += vote * (shares.data[j] - others[j]);
    });
    return { votes, p };
  };
  const { votes, p } = probabilities(student, row, studentTemp);
  const gradient = new Float64Array(sops);
  for (const other of [0, 1].filter((other) => other !== view)) {
    probabilities(teacher, other * images + image, teacherTemp).p.forEach((target, i) => {
      gradient[i] -= target / p[i] / (images * (2 * views - 2));
    });
  }
  const whole = gradient.reduce((a, b) => a + b);
  const ofVote = votes.map(
    (_, j) => (shares.data[j] - others[j]) * gradient[Math.floor(j / members)] + others[j] * whole,
  );
  const mean = votes.reduce((sum, vote, j) => sum + vote * ofVote[j], 0);
  return (
    votes.reduce((sum, vote, j) => sum + vote * (ofVote[j] - mean) * support.data[j * width + column], 0) / studentTemp
  );
}

export const works = [
  product(3152, 384, 1152, false, false),
  product(3152, 384, 1152, false, true),
  product(384, 3152, 1152, true, false),
  product(12_608, 384, 384, false, true),
  rowwise('softmax', 12_000, 384, 5, softmaxAt),
  rowwise('layernorm', 12_000, 384, 8, normAt),
  attention(64, 197, 64),
  search(512, 16_384, 256, 8),
  encoder(4, false),
  encoder(4, true),
  sopHead(),
];

/** Draws the inputs of a work, the same ones every time. */
export const drawInputs = (work) => work.inputs(new Random(20250713));
