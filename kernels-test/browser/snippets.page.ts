import { decodePicture } from 'sop-gpu';
import { embedPictures } from '../../examples/snippets/embed.js';
import { softmaxRows } from '../../examples/snippets/kernel.js';
import { trainFor } from '../../examples/snippets/train.js';

/** What the tests call in the page. */
export interface SnippetResults {
  /** Steps whose loss was reported. */
  readonly losses: readonly number[];
  readonly count: number;
  readonly width: number;
  /** Squared norm of each feature. */
  readonly norms: readonly number[];
  readonly softmax: readonly number[];
  /** What is said of a bitmap that was closed. */
  readonly closed: string;
}

const SIDE = 40;

/** Pictures of all kinds that the library takes. */
async function pictures(): Promise<(File | ImageBitmap | ImageData)[]> {
  return Promise.all(
    Array.from({ length: 16 }, async (_, i) => {
      const canvas = new OffscreenCanvas(SIDE, SIDE);
      const context = canvas.getContext('2d')!;
      context.fillStyle = `hsl(${i * 22} 70% 50%)`;
      context.fillRect(4, 4, 10 + i, 30 - i);
      if (i % 3 === 0) return context.getImageData(0, 0, SIDE, SIDE);
      if (i % 3 === 1) return canvas.transferToImageBitmap();
      return new File([await canvas.convertToBlob()], `${i}.png`, { type: 'image/png' });
    }),
  );
}

async function runSnippets(): Promise<SnippetResults> {
  const given = await pictures();
  const losses: number[] = [];
  const weights = await trainFor(3, given, (_, loss) => losses.push(loss));
  const files = given.filter((picture) => picture instanceof File);
  const { values, count, width } = await embedPictures(weights, files);
  const norms = Array.from({ length: count }, (_, row) =>
    values.subarray(row * width, (row + 1) * width).reduce((sum, value) => sum + value * value, 0),
  );
  const device = await (await navigator.gpu.requestAdapter())!.requestDevice();
  const softmax = [...(await softmaxRows(device, Float32Array.of(1, 2, 3, 0, 0, 0), 3))];
  device.destroy();
  const bitmap = await createImageBitmap(new ImageData(1, 1));
  bitmap.close();
  const closed = await decodePicture(bitmap).then(String, String);
  return { losses, count, width, norms, softmax, closed };
}

Object.assign(globalThis, { runSnippets });
