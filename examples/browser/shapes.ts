import { type ImageSet, residentSet } from '../../src/index.js';
import { Draws } from '../../src/rng.js';

/**
 * The built-in set: textured shapes, drawn by formula, so that nothing is downloaded and every machine has the same pixels.
 * The class of a picture is its shape and its texture; colours, place, size, turn and background are drawn at random.
 */

const SIDE = 64;

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

/** 0 or 1: which of two colours a point of the shape has. */
const textures: Readonly<Record<string, (x: number, y: number) => number>> = {
  striped: (x) => (Math.floor(x * 3.2 + 100) % 2 === 0 ? 0 : 1),
  dotted: (x, y) => {
    const cell = (v: number) => ((v * 2.4 + 100) % 1) - 0.5;
    return Math.hypot(cell(x), cell(y)) < 0.3 ? 1 : 0;
  },
};

export const shapeClasses: readonly string[] = Object.keys(textures).flatMap((texture) =>
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
  const name = `${count} built-in pictures of textured shapes`;
  return residentSet({ name, channels: 3, width: SIDE, height: SIDE, pixels, labels, classes: shapeClasses });
}

function drawShape(image: Uint8Array, name: string, draws: Draws): void {
  const [texture = '', outline = ''] = name.split(' ');
  const distance = outlines[outline]!;
  const pattern = textures[texture]!;
  const radius = draws.uniform(16, 27);
  const [centreX, centreY] = [draws.uniform(25, 39), draws.uniform(25, 39)];
  const turn = draws.uniform(-0.3, 0.3);
  const [cos, sin] = [Math.cos(turn) / radius, Math.sin(turn) / radius];
  // Each class leans to a colour of its own; light varies far more.
  const hue = shapeClasses.indexOf(name) / shapeClasses.length + draws.uniform(-0.08, 0.08);
  const light = draws.uniform(0.3, 0.7);
  const first = colour(hue, draws.uniform(0.3, 0.8), light);
  const second = colour(hue + 0.5, 0.4, light > 0.5 ? light - 0.3 : light + 0.3);
  const ground = colour(draws.uniform(0, 1), 0.15, draws.uniform(0.1, 0.95));
  const slope = [draws.uniform(-0.15, 0.15), draws.uniform(-0.15, 0.15)] as const;
  let grain = draws.below(0x7fffffff) | 1;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const [dx, dy] = [x - centreX, y - centreY];
      const [u, v] = [cos * dx + sin * dy, cos * dy - sin * dx];
      // Half a pixel on each side of the outline is mixed: the edge is smooth.
      const cover = Math.min(1, Math.max(0, 0.5 - distance(u, v) * radius));
      const inside = pattern(u, v) === 1 ? second : first;
      const shade = (slope[0] * dx + slope[1] * dy) / 32;
      grain ^= grain << 13; // xorshift: cheap, and only a grain
      grain ^= grain >>> 17;
      grain ^= grain << 5;
      const noise = 0.06 * ((grain >>> 0) / 2 ** 32 - 0.5);
      for (let c = 0; c < 3; c++) {
        const value = cover * inside[c]! + (1 - cover) * (ground[c]! + shade) + noise;
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
