import type { RowTile } from '../../shaders/lib/row-tile.js';
import type { Target } from '../gpu/target.js';

/** Rows of a lane and about how many columns, for tiles of one subgroup; and the name of those of a workgroup. */
type TileSize = readonly [rows: number, columns: number];
const SUBGROUP_TILES: readonly TileSize[] = [
  [4, 32],
  [2, 32],
  [4, 16],
  [1, 32],
];
const WORKGROUP = 'workgroup';
const tileName = ([rows, columns]: TileSize): string => `${rows} rows x ${columns}`;

/**
 * Lavapipe's tiles of 64 x 64, with half the loads for each product: a search takes 0.70 of the time, probabilities 0.79, but
 * a kernel 3 s more to compile. Hence its choice only from so many multiplications on.
 */
const LARGE = { side: 64, from: 2e8 };

/** What a kernel with rows on lanes computes: `columns` products of `inner` numbers for each row, columns in whole `unit`s. */
export interface RowProducts {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly unit: number;
}

/** Names of the tiles that `target` can choose from, as an op's `variants`: its own choice first. */
export const rowTileVariants = (target: Target, products: RowProducts): readonly string[] => [
  ...tiles(target, products).keys(),
];

/** The tile of a variant; the target's choice where none is named. */
export function chooseRowTile(target: Target, products: RowProducts, variant?: string): RowTile {
  const { inner, unit } = products;
  const all = tiles(target, products);
  const [rows, wanted] = all.get(variant ?? '') ?? [...all.values()][0] ?? [0, 32];
  const columns = unit * Math.max(1, Math.floor(wanted / unit));
  if (rows === 0) return { lanes: 64, rows: 1, columns, unroll: 1, subgroup: false };
  return { lanes: target.subgroupSize, rows, columns, unroll: inner % 4 === 0 ? 4 : 1, subgroup: true };
}

/**
 * Sizes by name, the target's choice first, with no more rows of a lane than there are; the tile of a workgroup has none.
 * Software adapters with subgroups do without it: a barrier costs them more than loads.
 */
function tiles({ kind, subgroupSize: lanes }: Target, { rows, columns, inner }: RowProducts): Map<string, TileSize> {
  const workgroup = [WORKGROUP, [0, 32]] as const;
  if (lanes === 0) return new Map([workgroup]);
  const large: TileSize = [Math.min(8, LARGE.side / lanes), LARGE.side];
  const fills = kind === 'lavapipe' && Math.min(rows, columns) >= LARGE.side;
  const first = fills && rows * columns * inner >= LARGE.from;
  const sizes = [...(first ? [large] : []), ...SUBGROUP_TILES, ...(fills && !first ? [large] : [])];
  const named = sizes.map(([most, wanted]) => {
    const size = [Math.min(most, Math.ceil(rows / lanes)), wanted] as const;
    return [tileName(size), size] as const;
  });
  return new Map(kind === 'gpu' ? [workgroup, ...named] : named);
}
