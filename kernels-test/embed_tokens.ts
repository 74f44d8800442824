import { embedTokens, embedTokensBackward } from '../src/ops/embed_tokens.js';
import { type Segment, totalRows, totalSequences } from '../src/ops/segments.js';
import {
  type Benched,
  type Case,
  type CaseInput,
  EPSILON,
  opTest,
  type Random,
  type ReferenceCall,
  type Values,
} from './declare.js';
import { rowsOf } from './sequences.js';

type Attrs = { readonly segments: readonly Segment[]; readonly masked: boolean };

/** For each row of the tokens: its segment, its place in the sequence, and its row of patches (none for [CLS]). */
function* places({ segments }: Attrs): Generator<{ row: number; segment: number; place: number; patch: number }> {
  const segmentOf = segments.flatMap(({ count }, s) => Array.from({ length: count }, () => s));
  for (const [row, { sequence, place }] of rowsOf(segments).entries()) {
    yield { row, segment: segmentOf[sequence]!, place, patch: row - sequence - 1 };
  }
}

function forward({ inputs, outputs, attrs }: ReferenceCall<Attrs>): Values[] {
  const [rows = 0, width = 0] = outputs[0]!.shape;
  const [patches, cls] = inputs;
  const [embed, mask] = attrs.masked ? inputs.slice(-2) : [];
  const tokens = new Float64Array(rows * width);
  for (const { row, segment, place, patch } of places(attrs)) {
    for (let i = 0; i < width; i++) {
      const hidden = segment === 0 && mask?.[patch];
      const own = place === 0 ? cls![i]! : hidden ? embed![i]! : patches![patch * width + i]!;
      tokens[row * width + i] = own + inputs[2 + segment]![place * width + i]!;
    }
  }
  return [tokens];
}

function backward({ inputs: [dtokens, mask], outputs, attrs }: ReferenceCall<Attrs>): Values[] {
  const width = outputs[0]!.shape[1]!;
  const results = outputs.map(({ shape }) => new Float64Array(shape.reduce((count, side) => count * side, 1)));
  const [dpatches, dcls] = results;
  for (const { row, segment, place, patch } of places(attrs)) {
    const hidden = place > 0 && segment === 0 && mask?.[patch];
    for (let i = 0; i < width; i++) {
      const gradient = dtokens![row * width + i]!;
      results[2 + segment]![place * width + i]! += gradient;
      if (place === 0) dcls![i]! += gradient;
      else if (hidden) results.at(-1)![i]! += gradient;
      else dpatches![patch * width + i] = gradient;
    }
  }
  return results;
}

/** How large the sums of `backward` are where their terms, which have both signs, do not happen to cancel. */
function sizesOfSums({ inputs: [dtokens, ...rest], ...call }: ReferenceCall<Attrs>): Values[] {
  const squares = dtokens!.map((value) => value ** 2);
  return backward({ ...call, inputs: [squares, ...rest] }).map((sums) => sums.map(Math.sqrt));
}

const maskInput = (segments: readonly Segment[]): CaseInput => {
  const shape = [segments[0]!.count, segments[0]!.length - 1];
  const fill = (random: Random) => Array.from({ length: shape[0]! * shape[1]! }, () => Number(random.uniform() < 0.3));
  return { shape, dtype: 'u32', fill };
};

function forwardCase(width: number, segments: readonly Segment[], masked: boolean): Case<Attrs> {
  const patches = { shape: [totalRows(segments) - totalSequences(segments), width] };
  const positions = segments.map(({ length }) => ({ shape: [length, width] }));
  const mask = masked ? [{ shape: [width] }, maskInput(segments)] : [];
  return { inputs: [patches, { shape: [width] }, ...positions, ...mask], attrs: { segments, masked } };
}

function backwardCase(width: number, segments: readonly Segment[], masked: boolean): Case<Attrs> {
  const mask = masked ? [maskInput(segments)] : [];
  return { inputs: [{ shape: [totalRows(segments), width] }, ...mask], attrs: { segments, masked } };
}

const one = [{ count: 5, length: 17 }];
const two = [{ count: 4, length: 50 }, { count: 7, length: 5 }]; // biome-ignore format: one line a list
const smallest = [{ count: 1, length: 2 }, { count: 1, length: 2 }]; // biome-ignore format: one line a list

/** One rounding in forward. Backward: sqrt(count) numbers in series, twice; elements up to 5 RMS. */
const tolerance = ({ attrs: { segments } }: { readonly attrs: Attrs }): number =>
  5 * (2 + totalRows(segments) ** 0.25) * EPSILON;

/** The gradient test names inputs by number, so cases with the same inputs go together. */
const forwardTest = (gradients: readonly number[], cases: readonly Case<Attrs>[], bench?: Benched<Attrs>) =>
  opTest<Attrs>({
    op: embedTokens,
    reference: forward,
    cases,
    tolerance,
    gradient: { inputs: gradients, outputs: [0] },
    ...(bench && { bench }),
  });

export const embedTokensTests = [
  forwardTest([0, 1, 2], [forwardCase(7, one, false)], {
    dims: ['sequences', 'length', 'width'],
    sized: (count, length, width) => forwardCase(width, [{ count, length }], false),
    shapesOf: ({ outputs: [tokens], attrs: { segments } }) =>
      segments.map(({ count, length }) => [count, length, tokens!.shape[1]!]),
  }),
  forwardTest([0, 1, 2, 3], [forwardCase(64, two, false), forwardCase(1, smallest, false), forwardCase(7, one, true)]),
  forwardTest([0, 1, 2, 3, 4], [forwardCase(12, two, true), forwardCase(1, smallest, true)]),
  opTest<Attrs>({
    op: embedTokensBackward,
    reference: backward,
    cases: [
      backwardCase(7, one, false),
      backwardCase(64, two, true),
      backwardCase(4, [{ count: 197, length: 3 }], true),
    ],
    tolerance,
    terms: sizesOfSums,
  }),
];
