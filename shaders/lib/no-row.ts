/** In a list of row numbers: no row. As u32 above all that there are, so that `row < rows` tells. In WGSL `${NO_ROW}u`. */
export const NO_ROW = 0xffffffff;
