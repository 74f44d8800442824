import {
  type CheckpointStore,
  decodeSafetensors,
  encodeSafetensors,
  type ImageSet,
  type NamedArray,
} from '../../src/index.js';
import { texturedShapes } from './shapes.js';

/** What the browser keeps of a run besides its checkpoints and its metrics: what it was, and its pictures. */
export interface RunFacts {
  readonly preset: string;
  readonly steps: number;
  readonly set: string;
  readonly source: 'shapes' | 'images';
}

const FACTS = 'run.json';
const PICTURES = 'pictures.safetensors';
/** Pictures of the built-in set. */
const SHAPES = 480;

export const builtInSet = (): ImageSet => texturedShapes(SHAPES);

export async function writeFacts(store: CheckpointStore, facts: RunFacts): Promise<void> {
  await store.write(FACTS, new TextEncoder().encode(JSON.stringify(facts)));
}

export async function readFacts(store: CheckpointStore): Promise<RunFacts | null> {
  const bytes = await store.read(FACTS);
  return bytes ? (JSON.parse(new TextDecoder().decode(bytes)) as RunFacts) : null;
}

/** Keeps pictures that a reload would lose: pixels as tensors, names and classes as metadata. */
export async function writePictures(store: CheckpointStore, set: ImageSet): Promise<void> {
  const tensors: NamedArray[] = [];
  for (let i = 0; i < set.count; i++) {
    const { width, height, data } = await set.read(i);
    tensors.push({ name: `picture.${i}`, dtype: 'U8', shape: [height, width, set.channels], data });
  }
  const { name, labels, classes, files } = set;
  const facts = JSON.stringify({ name, labels: labels && [...labels], classes, files });
  await store.write(PICTURES, encodeSafetensors(tensors, [['set', facts]], { crc: true }));
}

/** The pictures of a kept run; null where they could not be kept. */
export async function readPictures(store: CheckpointStore): Promise<ImageSet | null> {
  const bytes = await store.read(PICTURES);
  if (!bytes) return null;
  const { tensors, metadata } = decodeSafetensors(bytes, PICTURES);
  const facts = JSON.parse(metadata.get('set') ?? '{}') as Pick<ImageSet, 'name' | 'classes' | 'files'> & {
    readonly labels: number[] | null;
  };
  return {
    ...facts,
    channels: 3,
    count: tensors.size,
    labels: facts.labels && Int32Array.from(facts.labels),
    resident: null,
    async read(index) {
      const tensor = tensors.get(`picture.${index}`);
      if (!tensor) throw new RangeError(`no picture ${index}`);
      const [height = 0, width = 0] = tensor.shape;
      return { width, height, data: tensor.data as Uint8Array };
    },
  };
}
