import { type Graph, PACK_ALIGNMENT, type Pack, packedSize } from '../graph/graph.js';
import { elements, type Tensor } from '../graph/tensor.js';
import { PACK_BLOCK } from '../ops/pack_norms.js';
import { DECAYS } from '../ops/update_adamw.js';

/**
 * Constants `blocks` u32 [nb, 2] and `first` u32 [T + 1] of `pack_norms`: the members of a pack, padding left out, in
 * blocks of (start element, count), and the first block of each member with one more at the end.
 */
export function packBlocks(graph: Graph, { flat, members }: Pack): { readonly blocks: Tensor; readonly first: Tensor } {
  const blocks: number[] = [];
  const first = [0];
  for (const member of members) {
    const size = elements(member);
    const offset = offsetOf(member);
    for (let done = 0; done < size; done += PACK_BLOCK) blocks.push(offset + done, Math.min(PACK_BLOCK, size - done));
    first.push(blocks.length / 2);
  }
  return {
    blocks: graph.constant(`${flat.label}.blocks`, [blocks.length / 2, 2], Uint32Array.from(blocks)),
    first: graph.constant(`${flat.label}.first`, [first.length], Uint32Array.from(first)),
  };
}

/**
 * Constant `table` u32 [n / 64] of `update_adamw`: for every 64 elements of a pack the number of the member that owns them,
 * marked where `decays` says that weight decay applies to it.
 */
export function packTable(graph: Graph, { flat, members }: Pack, decays: (member: Tensor) => boolean): Tensor {
  const table = new Uint32Array(elements(flat) / PACK_ALIGNMENT);
  members.forEach((member, number) => {
    const begin = offsetOf(member) / PACK_ALIGNMENT;
    table.fill(decays(member) ? number + DECAYS : number, begin, begin + packedSize(member) / PACK_ALIGNMENT);
  });
  return graph.constant(`${flat.label}.table`, [table.length], table);
}

function offsetOf(member: Tensor): number {
  if (!member.view) throw new RangeError(`${member.label} is in no pack`);
  return member.view.offset;
}
