import sharp from 'sharp';
import type { ImageSet } from '../data/dataset.js';
import { writeFileAtomic } from '../data/node/files.js';
import { Canvas, type Colour, letterHeight, type Picture, textWidth } from './canvas.js';

/** One way of finding neighbours, drawn as one block of columns. */
export interface NeighbourBlock {
  /** `before training`. */
  readonly label: string;
  /** For each drawn query its nearest gallery images, the nearest first; all lists of one length. */
  readonly neighbours: readonly (readonly number[])[];
}

export interface ContactSheet {
  readonly title: string;
  /** A line of small print below the title: data, images seen, adapter. */
  readonly subtitle?: string;
  readonly queries: ImageSet;
  /** Which of the queries are drawn, one a row. */
  readonly rows: readonly number[];
  readonly gallery: ImageSet;
  readonly blocks: readonly NeighbourBlock[];
}

const paper: Colour = [250, 250, 248];
const ink: Colour = [38, 42, 48];
const faint: Colour = [128, 134, 142];
const right: Colour = [35, 148, 88];
const wrong: Colour = [214, 64, 69];
const neutral: Colour = [196, 200, 205];

const margin = 28;
/** Width of the frame round an image. */
const frame = 4;
const gap = 8;
const blockGap = 36;
/** Small images are enlarged by whole numbers up to this side, larger ones reduced to it. */
const tileSide = 84;
const titleScale = 3;
const labelScale = 2;
const longestClass = 14;

/** An image ready to be drawn, and how many pixels each of its pixels takes. */
interface Tile {
  readonly picture: Picture;
  readonly scale: number;
}

async function tileOf(set: ImageSet, index: number): Promise<Tile> {
  const { width, height, data } = await set.read(index);
  const { channels } = set;
  const side = Math.max(width, height);
  if (side <= tileSide) return { picture: { width, height, channels, data }, scale: Math.floor(tileSide / side) };
  const { data: small, info } = await sharp(data, { raw: { width, height, channels } })
    .resize(tileSide, tileSide, { fit: 'inside' })
    .toColourspace(channels === 1 ? 'b-w' : 'srgb')
    .raw()
    .toBuffer({ resolveWithObject: true });
  const picture = { width: info.width, height: info.height, channels, data: new Uint8Array(small) };
  return { picture, scale: 1 };
}

const sideOf = ({ picture, scale }: Tile) => Math.max(picture.width, picture.height) * scale;

function classOf(set: ImageSet, index: number): string | undefined {
  const label = set.labels?.[index];
  return label === undefined ? undefined : (set.classes?.[label] ?? `class ${label}`);
}

/** Class names are the same in both sets, their numbers need not be. Undefined where there are no labels. */
function sameClass(sheet: ContactSheet, query: number, neighbour: number): boolean | undefined {
  const [mine, other] = [classOf(sheet.queries, query), classOf(sheet.gallery, neighbour)];
  return mine === undefined || other === undefined ? undefined : mine === other;
}

function shorten(text: string): string {
  return text.length <= longestClass ? text : `${text.slice(0, longestClass - 2)}..`;
}

/** `37 of 50 of the same class`, or nothing where there are no labels. */
function score(sheet: ContactSheet, block: NeighbourBlock): string {
  const verdicts = sheet.rows.flatMap((query, row) =>
    (block.neighbours[row] ?? []).map((neighbour) => sameClass(sheet, query, neighbour)),
  );
  if (verdicts.includes(undefined)) return '';
  return `${verdicts.filter(Boolean).length} of ${verdicts.length} of the same class`;
}

/** An image in the middle of a square cell, with its frame; a wrong one is also marked by a corner, for the colour-blind. */
function drawTile(canvas: Canvas, x: number, y: number, side: number, tile: Tile, verdict?: boolean): void {
  const colour = verdict === undefined ? neutral : verdict ? right : wrong;
  const { picture, scale } = tile;
  const [width, height] = [picture.width * scale, picture.height * scale];
  const left = x + frame + Math.floor((side - width) / 2);
  const top = y + frame + Math.floor((side - height) / 2);
  canvas.fill(left - frame, top - frame, width + 2 * frame, height + 2 * frame, colour);
  canvas.image(left, top, picture, scale);
  if (verdict !== false) return;
  const corner = Math.min(16, Math.floor(Math.min(width, height) / 3));
  for (let row = 0; row < corner; row++) canvas.fill(left + width - corner + row, top + row, corner - row, 1, wrong);
}

/**
 * Draws queries with their nearest neighbours, block beside block. Neighbours of the query's class have a green frame,
 * others a red one with a marked corner. Needs no fonts.
 *
 * @returns the picture as RGB, u8 [height, width, 3]
 */
export async function drawContactSheet(sheet: ContactSheet): Promise<Canvas> {
  const { rows, blocks, queries, gallery } = sheet;
  const queryTiles = await Promise.all(rows.map((index) => tileOf(queries, index)));
  const blockTiles = await Promise.all(
    blocks.map(({ neighbours }) =>
      Promise.all(neighbours.map((list) => Promise.all(list.map((index) => tileOf(gallery, index))))),
    ),
  );
  const side = Math.max(1, ...[...queryTiles, ...blockTiles.flat(2)].map(sideOf));
  const cell = side + 2 * frame;
  const columnsOf = (block: NeighbourBlock) => Math.max(0, ...block.neighbours.map((list) => list.length));
  const widthOf = (block: NeighbourBlock) => {
    const images = columnsOf(block) * (cell + gap) - gap;
    return Math.max(images, textWidth(block.label, labelScale), textWidth(score(sheet, block), labelScale));
  };

  const names = rows.map((index) => shorten(classOf(queries, index) ?? ''));
  const nameWidth = Math.max(0, ...names.map((name) => textWidth(name, labelScale)));
  const queryLeft = margin + (nameWidth === 0 ? 0 : nameWidth + 2 * gap);
  const lefts: number[] = [];
  let edge = queryLeft + Math.max(cell, textWidth('query', labelScale));
  for (const block of blocks) {
    lefts.push(edge + blockGap);
    edge += blockGap + widthOf(block);
  }
  const subtitle = sheet.subtitle ?? '';
  const titleWidth = Math.max(textWidth(sheet.title, titleScale), textWidth(subtitle, labelScale));
  const headTop = margin + letterHeight * titleScale + (subtitle === '' ? 0 : 12 + letterHeight * labelScale) + 28;
  const labelled = blocks.some((block) => score(sheet, block) !== '');
  const firstRow = headTop + letterHeight * labelScale + (labelled ? 8 + letterHeight * labelScale : 0) + 14;
  const lastRow = firstRow + rows.length * (cell + gap) - gap;
  const height = lastRow + (labelled ? 20 + letterHeight * labelScale : 0) + margin;
  const canvas = new Canvas(Math.max(edge, margin + titleWidth) + margin, height, paper);

  canvas.text(margin, margin, sheet.title, titleScale, ink);
  canvas.text(margin, margin + letterHeight * titleScale + 12, subtitle, labelScale, faint);
  canvas.text(queryLeft, headTop, 'query', labelScale, ink);
  blocks.forEach((block, b) => {
    canvas.text(lefts[b]!, headTop, block.label, labelScale, ink);
    canvas.text(lefts[b]!, headTop + letterHeight * labelScale + 8, score(sheet, block), labelScale, faint);
    canvas.fill(lefts[b]! - blockGap / 2, headTop, 1, lastRow - headTop, neutral);
  });
  rows.forEach((query, row) => {
    const top = firstRow + row * (cell + gap);
    const name = names[row]!;
    const nameLeft = margin + nameWidth - textWidth(name, labelScale);
    canvas.text(nameLeft, top + Math.floor((cell - letterHeight * labelScale) / 2), name, labelScale, ink);
    drawTile(canvas, queryLeft, top, side, queryTiles[row]!);
    blocks.forEach((block, b) => {
      block.neighbours[row]?.forEach((neighbour, column) => {
        const left = lefts[b]! + column * (cell + gap);
        drawTile(canvas, left, top, side, blockTiles[b]![row]![column]!, sameClass(sheet, query, neighbour));
      });
    });
  });
  if (labelled) {
    const legend = 'green frame: the class of the query; red frame with a marked corner: another class';
    canvas.text(queryLeft, lastRow + 20, legend, labelScale, faint);
  }
  return canvas;
}

/** Draws a contact sheet into a PNG file. @throws SopError 73, 74 */
export async function contactSheet(sheet: ContactSheet, file: string): Promise<void> {
  const { width, height, pixels } = await drawContactSheet(sheet);
  const png = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png({ palette: false })
    .toBuffer();
  await writeFileAtomic(file, [png]);
}
