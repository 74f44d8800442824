import { stripVTControlCharacters as stripColours } from 'node:util';

/** A cell: text, or a number printed as it is. */
export type Cell = string | number | undefined;

const numeric = /^[-+<>~]?[\d.,]+(e[-+]?\d+)?\s?(%|[A-Za-z/]{0,12})$/;

/**
 * A small table with aligned columns: numbers to the right, all else to the left; colours take no width.
 *
 * @param head titles of the columns; an empty list prints no head
 * @param indent spaces before each line
 * @returns lines without a line break at the end
 */
export function table(head: readonly string[], rows: readonly (readonly Cell[])[], indent = 2): string[] {
  const body = rows.map((row) => row.map((cell) => (cell === undefined ? '' : String(cell))));
  const all = head.length === 0 ? body : [[...head], ...body];
  const columns = Math.max(0, ...all.map((row) => row.length));
  const width = (text: string) => stripColours(text).length;
  const shapes = Array.from({ length: columns }, (_, column) => {
    const cells = body.map((row) => stripColours(row[column] ?? '')).filter((text) => text !== '');
    return {
      right: column > 0 && cells.length > 0 && cells.every((text) => numeric.test(text)),
      width: Math.max(...all.map((row) => width(row[column] ?? ''))),
    };
  });
  const line = (row: readonly string[]) =>
    shapes
      .map(({ right, width: wanted }, column) => {
        const text = row[column] ?? '';
        const pad = ' '.repeat(Math.max(0, wanted - width(text)));
        return right ? pad + text : text + pad;
      })
      .join('  ')
      .trimEnd();
  return all.map((row) => ' '.repeat(indent) + line(row));
}
