import type { Target } from '../gpu/target.js';
import { elements } from '../graph/tensor.js';
import { bindingLimit, mebibytes } from './binding-limit.js';
import { largestUser, type Plan } from './plan.js';

/** Work of all nodes of one kind, forward and backward. */
export interface FamilyCost {
  /** Name of the op without `_backward`. */
  readonly family: string;
  readonly nodes: number;
  readonly flops: number;
  /** Bytes that have to be read and written at least. */
  readonly bytes: number;
}

/** A tensor, and what it takes in one binding. */
export interface LargeTensor {
  readonly label: string;
  readonly bytes: number;
}

/** What one step needs, known before a device is touched. Sizes in bytes. */
export interface PlanReport {
  readonly limits: Pick<Target, 'name' | 'maxBindingBytes' | 'maxBufferBytes'>;
  /** Numbers that are trained; `masked_embed` is counted apart, so that `backbone` is what papers print. */
  readonly parameters: { readonly backbone: number; readonly head: number; readonly maskedEmbed: number };
  /** Of one step. */
  readonly dispatches: number;
  /** Different shaders among them. */
  readonly kernels: number;
  readonly memory: {
    readonly total: number;
    /** If no two temporaries shared a buffer. */
    readonly unplanned: number;
    /** By group, largest first. */
    readonly groups: ReadonlyMap<string, number>;
  };
  readonly work: {
    readonly flops: number;
    readonly bytes: number;
    /** Most work first. */
    readonly families: readonly FamilyCost[];
  };
  readonly largestBinding: LargeTensor;
}

/** The planner's groups in the words of the report; others keep their name. */
const groupNames: Readonly<Record<string, string>> = {
  student: 'weights',
  gradient: 'gradients',
  moment1: 'moments',
  moment2: 'moments',
  memory: 'memories',
  input: 'inputs',
  constant: 'constants',
};

/** Sums up a plan: parameters, memory, work. Pure. `beside`: bytes that are needed besides, by the name of their group. */
export function describePlan(plan: Plan, beside: Readonly<Record<string, number>> = {}): PlanReport {
  const { buffers, launches, target } = plan;
  // Scratch that shares a buffer with larger activations is counted there.
  const groups = new Map([['scratch', 0], ...Object.entries(beside)]);
  for (const buffer of buffers) add(groups, groupNames[buffer.group] ?? buffer.group, buffer.bytes);
  const total = [...groups.values()].reduce((sum, bytes) => sum + bytes, 0);
  const shared = buffers.reduce((sum, { users, bytes }) => sum + (users.length > 0 ? bytes : 0), 0);
  const families = familyCosts(plan);
  return {
    limits: { name: target.name, maxBindingBytes: target.maxBindingBytes, maxBufferBytes: target.maxBufferBytes },
    parameters: parametersOf(plan),
    dispatches: launches.length,
    kernels: new Set(launches.map(({ kernel }) => kernel.source)).size,
    memory: {
      total,
      unplanned: total - shared + plan.unplannedBytes,
      groups: new Map([...groups].sort(([, a], [, b]) => b - a)),
    },
    work: {
      flops: families.reduce((sum, { flops }) => sum + flops, 0),
      bytes: families.reduce((sum, { bytes }) => sum + bytes, 0),
      families,
    },
    largestBinding: buffers.map(largestUser).reduce(larger, { label: 'none', bytes: 0 }),
  };
}

function parametersOf({ graph }: Plan): PlanReport['parameters'] {
  const trained = graph.tensors.filter(({ storage }) => storage === 'parameter');
  const count = (of: (label: string) => boolean): number =>
    trained.reduce((sum, tensor) => sum + (of(tensor.label) ? elements(tensor) : 0), 0);
  const isHead = (label: string): boolean => label.startsWith('student.head.');
  const isMasked = (label: string): boolean => label === 'student.masked_embed';
  return {
    backbone: count((label) => !isHead(label) && !isMasked(label)),
    head: count(isHead),
    maskedEmbed: count(isMasked),
  };
}

function familyCosts({ graph, costs }: Plan): FamilyCost[] {
  const families = new Map<string, FamilyCost>();
  graph.nodes.forEach(({ op, index }) => {
    const family = op.name.replace(/_backward.*$/, '');
    const known = families.get(family) ?? { family, nodes: 0, flops: 0, bytes: 0 };
    const cost = costs[index] ?? { flops: 0, bytes: 0 };
    families.set(family, {
      family,
      nodes: known.nodes + 1,
      flops: known.flops + cost.flops,
      bytes: known.bytes + cost.bytes,
    });
  });
  return [...families.values()].sort((a, b) => b.flops - a.flops || b.bytes - a.bytes);
}

/**
 * FLOP by formula of each dispatch: those of its node, divided among its dispatches as the work that they may do is. 0 where
 * the device decides how much it does: a rate from what was expected would be none.
 */
export function dispatchFlops({ launches, costs }: Plan): number[] {
  const most = new Map<number, number>();
  for (const { node, flops } of launches) most.set(node.index, (most.get(node.index) ?? 0) + flops);
  return launches.map(({ node, flops, indirect }) => {
    const all = most.get(node.index) ?? 0;
    return all > 0 && !indirect ? ((costs[node.index]?.flops ?? 0) * flops) / all : 0;
  });
}

function larger(a: LargeTensor, b: LargeTensor): LargeTensor {
  return b.bytes > a.bytes ? b : a;
}

function add(sums: Map<string, number>, key: string, value: number): void {
  sums.set(key, (sums.get(key) ?? 0) + value);
}

/** `21.67 M`, `3.20 k`, `811 G`: three or more digits and an SI prefix. */
export function si(value: number): string {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P'];
  const power = value >= 1000 ? Math.min(prefixes.length - 1, Math.floor(Math.log10(value) / 3)) : 0;
  const scaled = value / 1000 ** power;
  const text = power === 0 ? String(Math.round(value)) : scaled.toFixed(scaled < 100 ? 2 : scaled < 1000 ? 1 : 0);
  return `${text} ${prefixes[power]}`.trim();
}

/** Families of nodes that the summary names; the rest is one entry. */
const NAMED_FAMILIES = 5;

/** The report in a few lines for people, as `train` prints it before step 1. */
export function planSummary(report: PlanReport): string[] {
  const { parameters, memory, work, largestBinding, limits } = report;
  const groups = [...memory.groups].filter(([, size]) => size >= 2 ** 20 / 20);
  const families = work.families.slice(0, NAMED_FAMILIES).filter(({ flops }) => flops > 0);
  const share = (flops: number): string => `${((100 * flops) / Math.max(1, work.flops)).toFixed(0)} %`;
  const rest = work.flops - families.reduce((sum, { flops }) => sum + flops, 0);
  const shares = families.map(({ family, flops }) => `${family} ${share(flops)}`);
  if (rest > 0) shares.push(`others ${share(rest)}`);
  return [
    `parameters  ${si(parameters.backbone)} backbone, ${si(parameters.head)} head`,
    `memory      ${mebibytes(memory.total)} MiB (${mebibytes(memory.unplanned)} without sharing of buffers)`,
    ...groups.map(([group, size]) => `  ${group.padEnd(28)}${mebibytes(size).padStart(9)} MiB`),
    `work        ${si(work.flops)}FLOP, at least ${si(work.bytes)}B moved, ${report.dispatches} dispatches of ${report.kernels} kernels a step`,
    `            ${shares.join(', ')}`,
    `binding     at most ${mebibytes(largestBinding.bytes)} MiB (${largestBinding.label}); ${limits.name} allows ${mebibytes(bindingLimit(limits))}`,
  ];
}
