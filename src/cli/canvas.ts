/** A picture in memory and the little that is drawn on it: rectangles, images, letters. */

export type Colour = readonly [red: number, green: number, blue: number];

/** An image to draw: u8 [height, width, channels]. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3;
  readonly data: Uint8Array;
}

/**
 * Letters of a dot-matrix display, ` ` to `~`: 5 columns of 8 dots each, a byte a column, the lowest bit on top.
 * They are here because text in an SVG needs fonts, which a bare machine does not have.
 */
const letters = [
  '000000000000005f00000007000700147f147f14242a7f2a12231308646236495620500000070000001c2241000041221c002a1c7f1c2a',
  '08083e080800a06000000808080800006060000020100804023e5149453e00427f400042615149462141454b311814127f102745454539',
  '3c4a49493001710905033649494936064949291e003636000000a06c00000814224100141414141400412214080201510906324979413e',
  '7e1111117e7f494949363e414141227f4141221c7f494949417f090909013e4149497a7f0808087f00417f41002040413f017f08142241',
  '7f404040407f020c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946464949493101017f01013f4040403f1f2040201f',
  '3f4038403f631408146307087008076151494543007f41410002040810200041417f000402010204404040404000010204002054545478',
  '7f484444383844444420384444487f3854545418087e09010218a4a4a47c7f0804047800447d40000080807d007f1028440000417f4000',
  '7c041804787c080404783844444438fc2424241818242424fc7c080404084854545420043f4440203c4040207c1c2040201c3c4030403c',
  '44281028441ca0a0a07c4464544c44000836410000007f000000413608001008081008',
].join('');

/** Rows of a capital at scale 1; g, p and their like reach one row below it. */
export const letterHeight = 7;

/** The columns of a letter that hold dots; a space is two empty ones. What is no ASCII becomes `?`. */
function columnsOf(letter: string): readonly number[] {
  const code = letter.charCodeAt(0);
  const index = code >= 0x20 && code <= 0x7e ? code - 0x20 : 0x1f;
  const columns = Array.from({ length: 5 }, (_, i) =>
    Number.parseInt(letters.slice(10 * index + 2 * i).slice(0, 2), 16),
  );
  if (index === 0) return [0, 0];
  const first = columns.findIndex((column) => column > 0);
  const last = columns.findLastIndex((column) => column > 0);
  return columns.slice(first, last + 1);
}

/** Width of a text in pixels, one empty column between letters. */
export function textWidth(text: string, scale: number): number {
  const columns = [...text].reduce((sum, letter) => sum + columnsOf(letter).length + 1, 0);
  return Math.max(0, columns - 1) * scale;
}

/** An RGB picture that is drawn on. Coordinates count from the upper left; all drawing is inside, or a bug. */
export class Canvas {
  /** u8 [height, width, 3] */
  readonly pixels: Uint8Array;

  constructor(
    readonly width: number,
    readonly height: number,
    background: Colour,
  ) {
    this.pixels = new Uint8Array(width * height * 3);
    this.fill(0, 0, width, height, background);
  }

  fill(x: number, y: number, width: number, height: number, colour: Colour): void {
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++) this.pixels.set(colour, (row * this.width + column) * 3);
    }
  }

  /** Draws an image with each of its pixels `scale` pixels wide and high: nothing is smoothed away. */
  image(x: number, y: number, { width, height, channels, data }: Picture, scale: number): void {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const at = (row * width + column) * channels;
        const first = data[at]!;
        const colour: Colour = channels === 3 ? [first, data[at + 1]!, data[at + 2]!] : [first, first, first];
        this.fill(x + column * scale, y + row * scale, scale, scale, colour);
      }
    }
  }

  /** Writes one line, the upper left of its first letter at (x, y). */
  text(x: number, y: number, text: string, scale: number, colour: Colour): void {
    let left = x;
    for (const letter of text) {
      for (const column of columnsOf(letter)) {
        for (let row = 0; row <= letterHeight; row++) {
          if ((column >> row) & 1) this.fill(left, y + row * scale, scale, scale, colour);
        }
        left += scale;
      }
      left += scale;
    }
  }
}
