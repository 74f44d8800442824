import { Draws, type ImageSet, residentSet } from '../../src/index.js';

/**
 * The built-in set: textured shapes, drawn by formula, so that nothing is downloaded and every machine has the same pixels.
 * The class of a picture is its shape and its texture, in a tint of their own, as things in the world have. Place, size, turn
 * and light vary, and light most: an untrained model sorts pictures by how bright they are. To views of one picture light is
 * chance, so a model that learns comes to sort them by what is shown.
 */

const SIDE = 64;
/** Of stripes and dots, pixels. */
const PERIOD = 9;
/** Light varies between its inverse and this factor. */
const LIGHT = 1.42;

/** Signed distance to the outline in units of the shape's radius: negative inside. */
const outlines: Readonly<Record<string, (x: number, y: number) => number>> = {
  disc: (x, y) => Math.hypot(x, y) - 0.95,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) - 0.8,
  triangle: (x, y) => Math.max(-y - 0.5, 0.866 * Math.abs(x) + 0.5 * y - 0.5),
  ring: (x, y) => Math.abs(Math.hypot(x, y) - 0.7) - 0.27,
  cross: (x, y) => {
    const [far, near] = [Math.max(Math.abs(x), Math.abs(y)), Math.min(Math.abs(x), Math.abs(y))];
    return Math.max(far - 1, near - 0.32);
  },
};

/** Whether the pattern covers a point of the shape, in pixels from its centre. */
const textures: Readonly<Record<string, (x: number, y: number) => boolean>> = {
  striped: (x) => inPeriod(x) >= 0.5,
  dotted: (x, y) => Math.hypot(inPeriod(x) - 0.5, inPeriod(y) - 0.5) < 0.32,
};

/** Place within a period of the texture, in [0, 1). */
function inPeriod(pixels: number): number {
  const periods = pixels / PERIOD;
  return periods - Math.floor(periods);
}

const shapeClasses: readonly string[] = Object.keys(textures).flatMap((texture) =>
  Object.keys(outlines).map((outline) => `${texture} ${outline}`),
);

type Colour = readonly [number, number, number];

/** `count` pictures, classes in turn. The same for the same seed. */
export function texturedShapes(count: number, seed = 0): ImageSet {
  const pixels = new Uint8Array(count * SIDE * SIDE * 3);
  const labels = Int32Array.from({ length: count }, (_, i) => i % shapeClasses.length);
  for (let i = 0; i < count; i++) {
    const image = pixels.subarray(i * SIDE * SIDE * 3, (i + 1) * SIDE * SIDE * 3);
    drawShape(image, shapeClasses[labels[i] ?? 0] ?? '', new Draws({ seed, purpose: 'synthetic', item: i }));
  }
  const name = `${count} built-in drawings of textured shapes`;
  return residentSet({ name, channels: 3, width: SIDE, height: SIDE, pixels, labels, classes: shapeClasses });
}

function drawShape(image: Uint8Array, name: string, draws: Draws): void {
  const [texture = '', outline = ''] = name.split(' ');
  const distance = outlines[outline]!;
  const covers = textures[texture]!;
  const radius = draws.uniform(18, 28);
  const [centreX, centreY] = [draws.uniform(25, 39), draws.uniform(25, 39)];
  const turn = draws.uniform(-0.3, 0.3);
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  const hue = shapeClasses.indexOf(name) / shapeClasses.length + draws.uniform(-0.05, 0.05);
  const plain = colour(hue, draws.uniform(0.3, 0.8), 0.5);
  const pattern = colour(hue + 0.5, 0.4, 0.2);
  const ground = colour(draws.uniform(0, 1), 0.05, draws.uniform(0.46, 0.54));
  const light = LIGHT ** draws.uniform(-1, 1);
  const slope = [draws.uniform(-0.05, 0.05), draws.uniform(-0.05, 0.05)] as const;
  let grain = draws.below(0x7fffffff) | 1;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const [dx, dy] = [x - centreX, y - centreY];
      const [u, v] = [cos * dx + sin * dy, cos * dy - sin * dx];
      // Half a pixel on each side of the outline is mixed: the edge is smooth.
      const cover = Math.min(1, Math.max(0, 0.5 - distance(u / radius, v / radius) * radius));
      const inside = covers(u, v) ? pattern : plain;
      const shade = (slope[0] * dx + slope[1] * dy) / 32;
      grain ^= grain << 13; // xorshift: cheap, and only a grain
      grain ^= grain >>> 17;
      grain ^= grain << 5;
      const noise = 0.06 * ((grain >>> 0) / 2 ** 32 - 0.5);
      for (let c = 0; c < 3; c++) {
        const value = light * (cover * inside[c]! + (1 - cover) * (ground[c]! + shade)) + noise;
        image[3 * (y * SIDE + x) + c] = Math.round(255 * Math.min(1, Math.max(0, value)));
      }
    }
  }
}

/** Hue in turns, saturation, lightness in [0, 1] as RGB in [0, 1]. */
function colour(hue: number, saturation: number, lightness: number): Colour {
  const channel = (offset: number): number => {
    const k = (offset + 12 * (((hue % 1) + 1) % 1)) % 12;
    return lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [channel(0), channel(8), channel(4)];
}
