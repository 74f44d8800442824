import { type AttentionAttributes, attention, attentionBackward } from '../src/ops/attention.js';
import { placeSegments, totalRows } from '../src/ops/segments.js';
import { type Case, EPSILON, opTest, type Values } from './declare.js';

/** Calls `body` for each head of each sequence with `at(row, part, c)`: place of element c of q, k or v in qkv. */
function eachHead(
  { heads, segments }: AttentionAttributes,
  width: number,
  body: (head: number, rows: readonly number[], headWidth: number) => void,
): void {
  for (const { count, length, firstRow } of placeSegments(segments)) {
    for (let sequence = 0; sequence < count; sequence++) {
      const rows = Array.from({ length }, (_, i) => firstRow + sequence * length + i);
      for (let head = 0; head < heads; head++) body(head, rows, width / heads);
    }
  }
}

function dot(a: Values, b: Values): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** Vectors of one head: q, k, v of the given rows. */
function vectors(qkv: Values, width: number, head: number, rows: readonly number[], headWidth: number) {
  const part = (p: number): Values[] =>
    rows.map((row) => qkv.subarray(row * 3 * width + p * width + head * headWidth).subarray(0, headWidth));
  return { q: part(0), k: part(1), v: part(2) };
}

/** Weights of the keys for one query, and the logarithm of the sum of the exponentials of its scores. */
function softmaxOf(query: Values, keys: readonly Values[]): { p: readonly number[]; total: number } {
  const scores = keys.map((key) => dot(query, key) / Math.sqrt(query.length));
  const most = Math.max(...scores);
  const total = most + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - most), 0));
  return { p: scores.map((score) => Math.exp(score - total)), total };
}

const cases = [
  { width: 4, heads: 1, segments: [{ count: 1, length: 1 }] },
  { width: 10, heads: 2, segments: [{ count: 2, length: 7 }] },
  {
    width: 64,
    heads: 4,
    segments: [
      { count: 2, length: 17 },
      { count: 2, length: 5 },
    ],
  },
  { width: 4, heads: 1, segments: [{ count: 1, length: 197 }] },
  { width: 64, heads: 1, segments: [{ count: 1, length: 33 }] },
];

function attentionCase({
  width,
  heads,
  segments,
}: AttentionAttributes & { readonly width: number }): Case<AttentionAttributes> {
  return { inputs: [{ shape: [totalRows(segments), 3 * width] }], attrs: { heads, segments } };
}

export const attentionTests = [
  opTest({
    op: attention,
    reference({ inputs: [qkv], outputs: [out], attrs, wanted }) {
      const [rowCount, width] = out!.shape as [number, number];
      const result = new Float64Array(rowCount * width);
      const lse = new Float64Array(rowCount * attrs.heads);
      eachHead(attrs, width, (head, rows, headWidth) => {
        const { q, k, v } = vectors(qkv!, width, head, rows, headWidth);
        rows.forEach((row, i) => {
          if (!wanted(row)) return;
          const { p, total } = softmaxOf(q[i]!, k);
          lse[row * attrs.heads + head] = total;
          p.forEach((pj, j) => {
            for (let c = 0; c < headWidth; c++) result[row * width + head * headWidth + c]! += pj * v[j]![c]!;
          });
        });
      });
      return [result, lse];
    },
    cases: cases.map(attentionCase),
    // A score of a few units is off by EPSILON sqrt(head width) of itself, exp by 10 ULP; both scale a weight. The error is
    // taken relative to the RMS of averages over up to 197 values, a tenth of a value, and to the worst of its elements.
    tolerance: ({ specs: [qkv], attrs }) => 64 * EPSILON * Math.sqrt(qkv!.shape[1]! / (3 * attrs.heads)),
    // A weight's error is a share of it: a query that looks at few keys has terms far above the RMS of averages.
    terms({ inputs: [qkv], outputs: [out], attrs, wanted }) {
      const [rowCount, width] = out!.shape as [number, number];
      const squares = new Float64Array(rowCount * width);
      eachHead(attrs, width, (head, rows, headWidth) => {
        const { q, k, v } = vectors(qkv!, width, head, rows, headWidth);
        rows.forEach((row, i) => {
          if (!wanted(row)) return;
          softmaxOf(q[i]!, k).p.forEach((pj, j) => {
            for (let c = 0; c < headWidth; c++) squares[row * width + head * headWidth + c]! += (pj * v[j]![c]!) ** 2;
          });
        });
      });
      return [squares.map(Math.sqrt), null];
    },
    gradient: { inputs: [0], outputs: [0] },
    bench: {
      dims: ['sequences', 'length', 'head-width', 'heads?'],
      sized: (count, length, headWidth, heads = 1) =>
        attentionCase({ width: heads * headWidth, heads, segments: [{ count, length }] }),
      shapesOf: ({ outputs: [out], attrs: { heads, segments } }) =>
        segments.map(({ count, length }) => [count, length, out!.shape[1]! / heads, heads]),
      also: [[64, 197, 64, 1]],
    },
    sampledRows: 16,
  }),
  opTest({
    op: attentionBackward,
    reference({ inputs: [qkv, out, lse, dout], specs, attrs, wanted }) {
      const width = specs[0]!.shape[1]! / 3;
      const result = new Float64Array(qkv!.length);
      eachHead(attrs, width, (head, rows, headWidth) => {
        const { q, k, v } = vectors(qkv!, width, head, rows, headWidth);
        const d = vectors(result, width, head, rows, headWidth);
        const scale = 1 / Math.sqrt(headWidth);
        rows.forEach((row, i) => {
          const slice = (values: Values): Values =>
            values.subarray(row * width + head * headWidth).subarray(0, headWidth);
          const g = slice(dout!);
          const delta = dot(g, slice(out!));
          rows.forEach((other, j) => {
            if (!wanted(row) && !wanted(other)) return;
            const p = Math.exp(scale * dot(q[i]!, k[j]!) - lse![row * attrs.heads + head]!);
            const ds = p * (dot(g, v[j]!) - delta);
            for (let c = 0; c < headWidth; c++) {
              d.q[i]![c]! += scale * ds * k[j]![c]!;
              d.k[j]![c]! += scale * ds * q[i]![c]!;
              d.v[j]![c]! += p * g[c]!;
            }
          });
        });
      });
      return [result];
    },
    // Exercised through the cases of `attention`: its inputs out and lse must belong to qkv.
    cases: [],
    sampledRows: 16,
    tolerance: ({ specs: [qkv], attrs }) => 64 * EPSILON * Math.sqrt(qkv!.shape[1]! / (3 * attrs.heads)),
    // A weight's error is a share of it, so a sum's is one of its largest terms: those of a key that many queries look at are
    // far from the RMS. And dp and delta cancel where a query looks at one key alone.
    terms({ inputs: [qkv, out, lse, dout], specs, attrs, wanted }) {
      const width = specs[0]!.shape[1]! / 3;
      const squares = new Float64Array(qkv!.length);
      eachHead(attrs, width, (head, rows, headWidth) => {
        const { q, k, v } = vectors(qkv!, width, head, rows, headWidth);
        const d = vectors(squares, width, head, rows, headWidth);
        const scale = 1 / Math.sqrt(headWidth);
        rows.forEach((row, i) => {
          const slice = (values: Values): Values =>
            values.subarray(row * width + head * headWidth).subarray(0, headWidth);
          const g = slice(dout!);
          const delta = Math.abs(dot(g, slice(out!)));
          rows.forEach((other, j) => {
            if (!wanted(row) && !wanted(other)) return;
            const p = Math.exp(scale * dot(q[i]!, k[j]!) - lse![row * attrs.heads + head]!);
            const ds = scale * p * (Math.abs(dot(g, v[j]!)) + delta);
            for (let c = 0; c < headWidth; c++) {
              d.q[i]![c]! += (ds * k[j]![c]!) ** 2;
              d.k[j]![c]! += (ds * q[i]![c]!) ** 2;
              d.v[j]![c]! += (p * g[c]!) ** 2;
            }
          });
        });
      });
      return [squares.map(Math.sqrt)];
    },
  }),
];
