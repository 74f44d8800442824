import { printable, shortList } from '../data/dtype.js';
import { type NamedArray, toFloat32 } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import type { ParameterSpec } from '../nn/parameters.js';
import { resamplePositions } from './positions.js';
import { timmNames } from './weight-names.js';
import { weightComplaints, weightValues } from './weights.js';

/** What `train --init` found in a file. */
export interface InitialFrom {
  /** By timm's name, in the shapes of `specs`; parameters that are missing keep the values they were drawn with. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly matched: readonly string[];
  /** Parameters of the network that the file does not have: the head, for a file from elsewhere. */
  readonly missing: readonly string[];
  /** Tensors of the file that the network does not have. */
  readonly unexpected: readonly string[];
  /** Sides of the position grids, [file, network], where they differ. */
  readonly resampled: readonly [number, number] | null;
}

/**
 * Maps a file of weights (timm's names, Hugging Face's, our exports; of our checkpoints the teacher) to the parameters of a
 * network. Position embeddings of another grid are resampled bicubically.
 *
 * @param specs of the network that is to begin with them: `studentSpecs(shape)`
 * @throws SopError 65 where shapes contradict the network, nothing matches, or a value is NaN or infinity
 */
export function initFrom(
  tensors: ReadonlyMap<string, NamedArray>,
  specs: readonly ParameterSpec[],
  where: string,
): InitialFrom {
  const found = new Map(timmNames(tensors).tensors);
  const resampled = fitPositions(found, specs);
  const complaints = weightComplaints(specs, found, () => true);
  const matched = specs.map(({ name }) => name).filter((name) => found.has(name));
  if (matched.length === 0) complaints.push('no tensor has the name of a parameter');
  if (complaints.length > 0) {
    throw new SopError(ExitCode.data, {
      what: 'weights do not fit the model',
      where,
      why: complaints.join('; '),
      fix: 'set model.* and head.* as the file has them, and give images with as many channels',
    });
  }
  const known = new Set(matched);
  return {
    weights: new Map(matched.map((name) => [name, weightValues(found.get(name)!, where)])),
    matched,
    missing: specs.map(({ name }) => name).filter((name) => !known.has(name)),
    unexpected: [...found.keys()].filter((name) => !known.has(name)),
    resampled,
  };
}

/** Replaces `pos_embed` by one of the grid that the network has. */
function fitPositions(found: Map<string, NamedArray>, specs: readonly ParameterSpec[]): [number, number] | null {
  const have = found.get('pos_embed');
  const want = specs.find(({ name }) => name === 'pos_embed');
  const [one = 0, rows = 0, width = 0] = have?.shape ?? [];
  const [, wantedRows = 0, wantedWidth = 0] = want?.shape ?? [];
  const side = (count: number): number => Math.sqrt(count - 1);
  const squares = Number.isInteger(side(rows)) && side(rows) >= 1;
  // What does not fit for another reason is left to the check of shapes.
  if (!have || !want || one !== 1 || width !== wantedWidth || rows === wantedRows || !squares) return null;
  const data = resamplePositions(toFloat32(have), width, side(rows), side(wantedRows));
  found.set('pos_embed', { name: 'pos_embed', dtype: 'F32', shape: want.shape, data });
  return [side(rows), side(wantedRows)];
}

/** The report of `--init` for people. */
export function initLines({ matched, missing, unexpected, resampled }: InitialFrom, where: string): string[] {
  const lines = [`init     ${where}: ${matched.length} of ${matched.length + missing.length} tensors matched`];
  if (resampled)
    lines.push(
      `         positions resampled from ${resampled[0]} x ${resampled[0]} to ${resampled[1]} x ${resampled[1]} patches`,
    );
  if (missing.length > 0) lines.push(`         not in the file, drawn anew: ${shortList(missing)}`);
  if (unexpected.length > 0) lines.push(`         not in the model, ignored: ${shortList(unexpected.map(printable))}`);
  return lines;
}
