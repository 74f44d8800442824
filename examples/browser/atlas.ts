import type { DecodedImage, ImageSet } from '../../src/index.js';
import type { SetInfo } from './protocol.js';

/** Side of a thumbnail, pixels. */
const TILE = 48;
const COLUMNS = 32;

/** Thumbnails of all images in one bitmap, each cropped to a centred square. */
export async function thumbnails(set: ImageSet): Promise<SetInfo> {
  const { count } = set;
  const rows = Math.ceil(count / COLUMNS);
  const canvas = new OffscreenCanvas(TILE * COLUMNS, TILE * Math.max(1, rows));
  const context = canvas.getContext('2d');
  if (!context) throw new Error('this browser gives no 2D canvas');
  for (let i = 0; i < count; i++) {
    const image = await set.read(i);
    const source = new OffscreenCanvas(image.width, image.height);
    source.getContext('2d')?.putImageData(new ImageData(toRgba(image), image.width, image.height), 0, 0);
    const side = Math.min(image.width, image.height);
    const [left, top] = [(image.width - side) / 2, (image.height - side) / 2];
    const [x, y] = [TILE * (i % COLUMNS), TILE * Math.floor(i / COLUMNS)];
    context.drawImage(source, left, top, side, side, x, y, TILE, TILE);
  }
  const { name, classes, labels } = set;
  return { name, count, classes, labels, atlas: canvas.transferToImageBitmap(), columns: COLUMNS, tile: TILE };
}

/** u8 [height, width, 1 or 3] as RGBA. */
function toRgba({ width, height, data }: DecodedImage): Uint8ClampedArray<ArrayBuffer> {
  const pixels = width * height;
  const channels = data.length / pixels;
  const result = new Uint8ClampedArray(4 * pixels).fill(255);
  for (let i = 0; i < pixels; i++)
    for (let c = 0; c < 3; c++) result[4 * i + c] = data[channels * i + (channels === 1 ? 0 : c)] ?? 0;
  return result;
}
