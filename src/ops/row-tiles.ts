import type { RowTile } from '../../shaders/lib/row-tile.js';
import type { Target } from '../gpu/target.js';

/** Tiles for kernels that keep rows on lanes, about `columns` wide; `columns` = a multiple of `unit`. */
export function chooseRowTile(target: Target, rows: number, unit: number, columns = 32): RowTile {
  const wide = unit * Math.max(1, Math.floor(columns / unit));
  if (target.kind === 'gpu' || target.subgroupSize === 0) {
    return { lanes: 64, rows: 1, columns: wide, subgroup: false };
  }
  const lanes = target.subgroupSize;
  return { lanes, rows: Math.min(4, Math.ceil(rows / lanes)), columns: wide, subgroup: true };
}
