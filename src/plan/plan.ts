import { ExitCode, SopError } from '../errors.js';
import type { Target } from '../gpu/target.js';
import type { Graph, Node } from '../graph/graph.js';
import type { Kernel } from '../graph/kernel.js';
import { type Cost, costOf, GraphError, type Launch, type Operand } from '../graph/op.js';
import { bytes, type Tensor } from '../graph/tensor.js';
import { BindingError, bindingLimit } from './binding-limit.js';
import { lifetimes, type Temporary, temporary } from './lifetimes.js';
import { assignSlots } from './slots.js';
import { withVariant } from './variants.js';

/** A buffer that the plan needs: one tensor that stays, or temporaries that take turns. */
export interface PlannedBuffer {
  readonly label: string;
  readonly bytes: number;
  /** What it is counted under: `student`, `memory`, ..., `input`, `constant`, `activations`, `scratch`. */
  readonly group: string;
  /** Temporaries that share it; empty for a buffer that stays. */
  readonly users: readonly Temporary[];
}

/** A range of a planned buffer. */
export interface Range {
  readonly buffer: number;
  readonly offset: number;
  readonly size: number;
}

/** A dispatch with its ranges resolved. */
export interface PlannedLaunch {
  readonly node: Node;
  readonly kernel: Kernel;
  /** In the kernel's binding order. */
  readonly ranges: readonly Range[];
  /** In the kernel's param order. */
  readonly params: readonly number[];
  /** As many as there are, or can be where `indirect` decides. */
  readonly workgroups: readonly [number, number, number];
  /** Work that it does at most, estimated. */
  readonly flops: number;
  /** Where the device reads how many there are. */
  readonly indirect: Range | null;
}

/** All that a step needs, decided before a device is touched. */
export interface Plan {
  readonly graph: Graph;
  readonly target: Target;
  readonly buffers: readonly PlannedBuffer[];
  readonly launches: readonly PlannedLaunch[];
  /** Cost of each node of the graph by formula, none for what is computed again. */
  readonly costs: readonly Cost[];
  /** Bytes of all temporaries if none shared a buffer. */
  readonly unplannedBytes: number;
  /** Where a tensor lies. @throws GraphError for a tensor that no node touches */
  range(tensor: Tensor): Range;
}

/**
 * Plans one step of `graph` on `target`. Tensors in `kept` can be read after the step.
 * @throws BindingError (69) naming a tensor that exceeds a limit of the target; GraphError for one in `kept` of another graph
 */
export function plan(graph: Graph, target: Target, kept: readonly Tensor[] = []): Plan {
  for (const tensor of kept) {
    if (graph.tensors[tensor.id] !== tensor)
      throw new GraphError(tensor.label, 'is kept, but belongs to another graph');
  }
  const buffers: PlannedBuffer[] = [];
  const ranges = new Map<Tensor, Range>();
  for (const tensor of graph.tensors) {
    if (tensor.storage === 'computed' || tensor.view) continue;
    ranges.set(tensor, { buffer: buffers.length, offset: 0, size: bytes(tensor) });
    buffers.push({ label: tensor.label, bytes: bytes(tensor), group: groupOf(tensor), users: [] });
  }
  for (const tensor of graph.tensors) {
    const base = tensor.view && ranges.get(tensor.view.of);
    if (tensor.view && base)
      ranges.set(tensor, { buffer: base.buffer, offset: 4 * tensor.view.offset, size: bytes(tensor) });
  }

  const temporaries: Temporary[] = [];
  const owners: (Tensor | { node: Node; index: number })[] = [];
  for (const [tensor, lifetime] of lifetimes(graph, kept)) {
    owners.push(tensor);
    temporaries.push(temporary('tensor', tensor.label, tensor, lifetime));
  }
  const call = ({ op, inputs, outputs, attrs }: Node) => withVariant(op, { inputs, outputs, attrs, target });
  for (const node of graph.nodes) {
    const specs = node.op.scratch?.(call(node)) ?? [];
    specs.forEach((spec, index) => {
      owners.push({ node, index });
      const label = `${node.op.name}[${node.index}].scratch.${index}`;
      temporaries.push(temporary('scratch', label, spec, { first: node.index, last: node.index }));
    });
  }
  const { slots, slotOf } = assignSlots(temporaries);
  const firstSlot = buffers.length;
  slots.forEach((slot, i) => {
    // Users come largest first: it is the first that the buffer is as large as it is for.
    const group = slot.users[0]?.kind === 'scratch' ? 'scratch' : 'activations';
    buffers.push({ label: `slot.${i}`, bytes: slot.bytes, group, users: slot.users });
  });
  checkLimits(buffers, target, graph);
  const scratchRanges = new Map<Node, Range[]>();
  owners.forEach((owner, i) => {
    const range = { buffer: firstSlot + (slotOf[i] ?? 0), offset: 0, size: temporaries[i]?.bytes ?? 0 };
    if (!('node' in owner)) ranges.set(owner, range);
    else scratchRanges.set(owner.node, [...(scratchRanges.get(owner.node) ?? []), range]);
  });

  const range = (tensor: Tensor): Range => {
    const found = ranges.get(tensor);
    if (!found) throw new GraphError(tensor.label, 'is in no buffer of the plan', 'name it in `kept`');
    return found;
  };
  // Nodes alike, in the blocks of a network and in micro-batches of one size, have the same launches: each is made once.
  const known = new Map<string, readonly Launch[]>();
  const launchesOf = (node: Node): readonly Launch[] => {
    const key = signature(node);
    const launches = known.get(key) ?? node.op.launches(call(node));
    known.set(key, launches);
    return launches;
  };
  const launches = graph.nodes.flatMap((node) => {
    const own = launchesOf(node);
    const share = own.some(({ flops }) => flops !== undefined) ? 0 : costOf(node).flops / own.length;
    return own.map((launch) =>
      resolve(node, { flops: share, ...launch }, range, scratchRanges.get(node) ?? [], target),
    );
  });
  return {
    graph,
    target,
    buffers,
    launches,
    costs: graph.nodes.map((node) => (graph.repeats.has(node) ? { flops: 0, bytes: 0 } : costOf(node))),
    unplannedBytes: temporaries.reduce((sum, { bytes }) => sum + bytes, 0),
    range,
  };
}

/** All that the launches of a node depend on, besides the target. */
function signature({ op, inputs, outputs, attrs }: Node): string {
  const specs = [...inputs, ...outputs].map(({ shape, dtype }) => [dtype, ...shape]);
  return JSON.stringify([op.name, inputs.length, specs, attrs]);
}

function resolve(
  node: Node,
  launch: Launch & { readonly flops: number },
  range: (tensor: Tensor) => Range,
  scratch: readonly Range[],
  target: Target,
): PlannedLaunch {
  const { kernel, workgroups, flops } = launch;
  const find = (operand: Operand | undefined, name: string): Range => {
    const tensor =
      operand?.kind === 'input'
        ? node.inputs[operand.index]
        : operand?.kind === 'output'
          ? node.outputs[operand.index]
          : null;
    const found = tensor ? range(tensor) : operand?.kind === 'scratch' ? scratch[operand.index] : undefined;
    if (!found) throw new GraphError(node.op.name, `nothing is bound to '${name}' of ${kernel.label}`);
    return found;
  };
  if (Object.keys(launch.bindings).length !== kernel.bindings.length) {
    throw new GraphError(
      node.op.name,
      `binds ${Object.keys(launch.bindings)} where ${kernel.label} has ${kernel.bindings.map(({ name }) => name)}`,
    );
  }
  const params = kernel.params.map(({ name }) => {
    const value = launch.params[name];
    if (value === undefined || Number.isNaN(value))
      throw new GraphError(node.op.name, `param '${name}' of ${kernel.label} is ${value}`);
    return value;
  });
  if (!workgroups.every((count) => Number.isInteger(count) && count > 0 && count <= target.maxWorkgroupsPerDimension)) {
    const most = target.maxWorkgroupsPerDimension;
    const why = `${workgroups.join(' x ')} workgroups of ${kernel.label}, and ${most} in a direction are the most`;
    throw new GraphError(node.op.name, why);
  }
  if (kernel.bindings.length > target.maxStorageBuffers) {
    throw new SopError(ExitCode.unavailable, {
      what: 'a kernel exceeds a limit of the adapter',
      where: node.op.name,
      why: `${kernel.label} binds ${kernel.bindings.length} storage buffers, ${target.name} allows ${target.maxStorageBuffers}`,
      fix: 'use another adapter',
    });
  }
  const ranges = kernel.bindings.map(({ name }) => find(launch.bindings[name], name));
  const counts = launch.indirect && find(launch.indirect.operand, 'workgroups');
  const indirect = counts ? { ...counts, offset: counts.offset + 4 * launch.indirect.first, size: 12 } : null;
  checkAliasing(node, kernel, ranges, indirect);
  return { node, kernel, ranges, params, workgroups, flops, indirect };
}

/** WebGPU's rule: within a dispatch a buffer is only read, or only written at ranges that do not overlap. */
function checkAliasing(node: Node, kernel: Kernel, bound: readonly Range[], indirect: Range | null): void {
  const ranges = indirect ? [...bound, indirect] : bound;
  const bindings = [...kernel.bindings, { name: 'workgroups', access: 'read' }];
  ranges.forEach((a, i) => {
    ranges.slice(i + 1).forEach((b, j) => {
      const [first, second] = [bindings[i], bindings[i + 1 + j]];
      if (a.buffer !== b.buffer || !first || !second || (first.access === 'read' && second.access === 'read')) return;
      const disjoint = a.offset + a.size <= b.offset || b.offset + b.size <= a.offset;
      if (first.access === second.access && disjoint) return;
      throw new GraphError(
        node.op.name,
        `${kernel.label} uses one buffer as '${first.name}' and '${second.name}' and writes it`,
      );
    });
  });
}

function groupOf(tensor: Tensor): string {
  if (tensor.storage === 'input' || tensor.storage === 'constant') return tensor.storage;
  return tensor.label.split('.')[0] ?? tensor.label;
}

function checkLimits(buffers: readonly PlannedBuffer[], target: Target, graph: Graph): void {
  const limit = bindingLimit(target);
  const beyond = buffers.filter(({ bytes }) => bytes > limit).sort((a, b) => b.bytes - a.bytes);
  const worst = beyond.find(stays) ?? beyond[0];
  if (!worst) return;
  const { label, bytes: size } = largestUser(worst);
  // Scratch buffers of an op are no tensors of the graph.
  const shape = graph.tensors.find((tensor) => tensor.label === label && bytes(tensor) === size)?.shape;
  throw new BindingError({ label, bytes: size, shape, divisible: !stays(worst) }, limit, target);
}

/** Whether a buffer is state, which has its size however the work of a step is divided. */
function stays({ users, group }: PlannedBuffer): boolean {
  return users.length === 0 && group !== 'input' && group !== 'constant';
}

/** Of temporaries that take turns in a buffer, the one that makes it as large as it is; a buffer that stays is its own. */
export function largestUser({ label, bytes, users }: PlannedBuffer): {
  readonly label: string;
  readonly bytes: number;
} {
  return users[0] ?? { label, bytes };
}
