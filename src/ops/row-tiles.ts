import type { RowTile } from '../../shaders/lib/row-tile.js';
import type { Target } from '../gpu/target.js';

/** Rows of a lane and about how many columns, for tiles of one subgroup; and the name of those of a workgroup. */
const SUBGROUP_TILES = [
  [4, 32],
  [2, 32],
  [4, 16],
  [1, 32],
] as const;
const WORKGROUP = 'workgroup';
const tileName = ([rows, columns]: readonly [number, number]): string => `${rows} rows x ${columns}`;

/** Names of the tiles that `target` can choose from, as an op's `variants`: its own choice first. */
export function rowTileVariants({ target }: { readonly target: Target }): readonly string[] {
  if (target.subgroupSize === 0) return [WORKGROUP];
  const bySubgroup = SUBGROUP_TILES.map(tileName);
  return target.kind === 'gpu' ? [WORKGROUP, ...bySubgroup] : [...bySubgroup, WORKGROUP];
}

/**
 * Tiles for kernels that keep rows on lanes; columns a multiple of `unit`, `inner` products a sum. `variant`: a name, else the
 * target's choice.
 */
export function chooseRowTile(target: Target, rows: number, unit: number, inner: number, variant?: string): RowTile {
  const name = variant ?? rowTileVariants({ target })[0];
  const [most, columns] = SUBGROUP_TILES.find((tile) => tileName(tile) === name) ?? [0, 32];
  const wide = unit * Math.max(1, Math.floor(columns / unit));
  if (most === 0) return { lanes: 64, rows: 1, columns: wide, unroll: 1, subgroup: false };
  const lanes = target.subgroupSize;
  return {
    lanes,
    rows: Math.min(most, Math.ceil(rows / lanes)),
    columns: wide,
    unroll: inner % 4 === 0 ? 4 : 1,
    subgroup: true,
  };
}
