import { GraphError, type Scalar } from '../graph/op.js';

/** A draw of `count` without replacement. `stream` tells draws of one step apart; `seed` and `step` are u32 scalars. */
export type Draw = {
  readonly count: number;
  readonly stream: number;
  readonly seed: Scalar;
  readonly step: Scalar;
};

/** Throws `GraphError` in the name of `op` unless that many can be drawn of `from`. */
export function checkDraw(op: string, { count, stream, seed, step }: Draw, from: number): void {
  if (!(count >= 1 && count <= from && from <= 2 ** 32)) throw new GraphError(op, `${count} different ones of ${from}`);
  if (!(Number.isInteger(stream) && stream >= 0 && stream < 2 ** 32))
    throw new GraphError(op, `stream ${stream} is no u32`);
  if (seed.dtype !== 'u32' || step.dtype !== 'u32')
    throw new GraphError(op, `seed ${seed.dtype} and step ${step.dtype} are not both u32`);
}
