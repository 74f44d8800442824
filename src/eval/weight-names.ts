import { type NamedArray, toFloat32 } from '../data/safetensors.js';

/** Names that other programs give to the parameters of a ViT, and timm's, which are ours. */

/** Which network of a checkpoint is meant. */
export type NetworkName = 'teacher' | 'student';

/** Tensors of one network under timm's names. */
export interface TimmTensors {
  readonly tensors: ReadonlyMap<string, NamedArray>;
  /** Where the names come from. */
  readonly origin: 'timm' | 'hugging-face';
  /** The network that was taken from a checkpoint of ours; null for a file of one network. */
  readonly network: NetworkName | null;
}

/** Names outside of the blocks: Hugging Face's (without the `vit.` before them), timm's. */
const outside: readonly (readonly [hf: string, timm: string])[] = [
  ['embeddings.cls_token', 'cls_token'],
  ['embeddings.position_embeddings', 'pos_embed'],
  ['embeddings.patch_embeddings.projection.weight', 'patch_embed.proj.weight'],
  ['embeddings.patch_embeddings.projection.bias', 'patch_embed.proj.bias'],
  ['layernorm.weight', 'norm.weight'],
  ['layernorm.bias', 'norm.bias'],
];

/** Modules of a block; the first name of Hugging Face's is what its files hold, others are read too (transformers 5). */
const inBlock: readonly (readonly [timm: string, ...hf: string[]])[] = [
  ['norm1', 'layernorm_before'],
  ['attn.proj', 'attention.output.dense', 'attention.o_proj'],
  ['norm2', 'layernorm_after'],
  ['mlp.fc1', 'intermediate.dense', 'mlp.fc1'],
  ['mlp.fc2', 'output.dense', 'mlp.fc2'],
];

/** Rows of timm's `attn.qkv`, in order. */
const attentionParts = [
  ['attention.attention.query', 'attention.q_proj'],
  ['attention.attention.key', 'attention.k_proj'],
  ['attention.attention.value', 'attention.v_proj'],
] as const;

const hfBlock = /^(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)$/;

/**
 * Brings the names of a file to timm's: those of our own checkpoints (`teacher.`, `student.`) lose their prefix, Hugging
 * Face's are translated, with query, key and value joined. Names that are nobody's stay as they are.
 *
 * @param network which network of a checkpoint; left out: the teacher, or the student where there is no teacher
 * @returns an empty map where a checkpoint lacks the network that was asked for
 */
export function timmNames(tensors: ReadonlyMap<string, NamedArray>, network?: NetworkName): TimmTensors {
  const has = (prefix: string): boolean => [...tensors.keys()].some((name) => name.startsWith(prefix));
  if (has('teacher.') || has('student.')) {
    const chosen = network ?? (has('teacher.') ? 'teacher' : 'student');
    return { tensors: withoutPrefix(tensors, `${chosen}.`), origin: 'timm', network: chosen };
  }
  if ([...tensors.keys()].some((name) => /^(vit\.)?embeddings\.cls_token$/.test(name))) {
    return { tensors: fromHuggingFace(tensors), origin: 'hugging-face', network: null };
  }
  return { tensors, origin: 'timm', network: null };
}

function withoutPrefix(tensors: ReadonlyMap<string, NamedArray>, prefix: string): Map<string, NamedArray> {
  const own = [...tensors].filter(([name]) => name.startsWith(prefix));
  return new Map(own.map(([name, tensor]) => [name.slice(prefix.length), tensor]));
}

function fromHuggingFace(tensors: ReadonlyMap<string, NamedArray>): Map<string, NamedArray> {
  const result = new Map<string, NamedArray>();
  const parts = new Map<string, (NamedArray | undefined)[]>();
  for (const [name, tensor] of tensors) {
    const plain = name.replace(/^vit\./, '');
    const [, block = '', module = '', kind = ''] = hfBlock.exec(plain) ?? [];
    const part = attentionParts.findIndex((names) => (names as readonly string[]).includes(module));
    if (part >= 0) {
      const joined = `blocks.${block}.attn.qkv.${kind}`;
      const known = parts.get(joined) ?? [undefined, undefined, undefined];
      known[part] = tensor;
      parts.set(joined, known);
      continue;
    }
    const found = inBlock.find(([, ...names]) => names.includes(module));
    const timm = found ? `blocks.${block}.${found[0]}.${kind}` : outside.find(([hf]) => hf === plain)?.[1];
    result.set(timm ?? plain, tensor);
  }
  for (const [name, [query, key, value]] of parts)
    if (query && key && value) result.set(name, joinRows(name, [query, key, value]));
  return result;
}

/** Tensors one below the other. Where they do not fit together the shape says so, and the check of shapes complains. */
function joinRows(name: string, parts: readonly NamedArray[]): NamedArray {
  const values = parts.map(toFloat32);
  const data = new Float32Array(values.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const value of values) {
    data.set(value, at);
    at += value.length;
  }
  const [, ...columns] = parts[0]?.shape ?? [];
  const width = columns.reduce((product, side) => product * side, 1);
  return { name, dtype: 'F32', shape: [data.length / width, ...columns], data };
}

/** A tensor under Hugging Face's name, ViTModel without pooler. @throws RangeError for a name that is not a backbone's */
export function huggingFaceTensors(name: string, shape: readonly number[], data: Float32Array): NamedArray[] {
  const make = (hf: string, of: readonly number[], values: Float32Array): NamedArray => ({
    name: hf,
    dtype: 'F32',
    shape: of,
    data: values,
  });
  const known = outside.find(([, timm]) => timm === name);
  if (known) return [make(known[0], shape, data)];
  const [, block, module, kind] = /^blocks\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  if (module === 'attn.qkv') {
    const size = data.length / 3;
    const [rows = 0, ...columns] = shape;
    return attentionParts.map(([hf], i) =>
      make(`encoder.layer.${block}.${hf}.${kind}`, [rows / 3, ...columns], data.slice(i * size, (i + 1) * size)),
    );
  }
  const found = inBlock.find(([timm]) => timm === module);
  if (!found) throw new RangeError(`${name} is no tensor of a ViT`);
  return [make(`encoder.layer.${block}.${found[1]}.${kind}`, shape, data)];
}
