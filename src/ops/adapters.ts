import type { Target } from '../gpu/target.js';

/** What an adapter is, as far as kernels are cut differently for it. */
type AdapterClass = 'lavapipe' | 'swiftshader' | 'integrated' | 'discrete';

/** Numbers by which ops choose among their variants where nothing was tuned. */
export interface AdapterCosts {
  /** ns that a load takes one subgroup. */
  readonly load: number;
  /** ns of a subgroup for the broadcast of a loaded number to all its lanes. */
  readonly broadcast: number;
  /** ns of a subgroup for a multiply-add. */
  readonly multiply: number;
  /** ns that one more dispatch costs. */
  readonly launch: number;
  /** Bytes that stay in the cache from one workgroup to the next. */
  readonly cache: number;
  /** ns that a byte from beyond the cache costs more. */
  readonly miss: number;
  /** Numbers that an invocation keeps in registers; what a tile has more is stored and loaded at each step. */
  readonly registers: number;
  /** Workgroups of a matrix product that keep the adapter busy. */
  readonly products: number;
  /** Workgroups of a search that keep it busy. */
  readonly searches: number;
}

/** Operands in memory are in the price of a software adapter's multiply-add. */
const CPU = { registers: Number.POSITIVE_INFINITY, cache: 4 * 2 ** 20, miss: 0.28, products: 4, searches: 4 };
const GPU = { broadcast: 0, multiply: 1.2, launch: 5_000, cache: Number.POSITIVE_INFINITY, miss: 0 };

/**
 * The built-in table, for adapters that nobody tuned (`sop-gpu tune`).
 *
 * The software adapters are measured. Their lanes run one after the other, so a load costs ten times a multiply-add or more
 * and tiles are as large as compile time allows; a few more workgroups than cores are enough. Lavapipe's numbers were taken
 * one by one; SwiftShader's follow from leaving loads, broadcasts and stores out of the matmul kernel in turn. The cache is
 * what each of two cores has of a third level of 16 MiB that others use too; gradients of weights at ViT-S's size, whose
 * inner axis is all rows, are 1.3 times as fast in parts that fit.
 *
 * GPUs are reasoned, not measured. A discrete one has 30 to 130 multiprocessors, each with several workgroups in flight to
 * hide the memory's latency: 256 small workgroups or 128 of a product leave none idle for long. An integrated one has 4 to
 * 10 times fewer (96 execution units of 8 lanes, or 8 to 16 cores of 128), shares the memory's bandwidth with the CPU, so a
 * load costs more beside a multiply-add, and its many small parts would only be added up again: a quarter of the workgroups.
 * Both have other workgroups to run while one waits for memory: no byte costs more than a load does anyway.
 * On both, a workgroup shares numbers through its memory at the price of a load a vector, which is in `load`. A discrete one has
 * 128 registers an invocation with 512 of them in flight, many integrated ones 64 in all: tiles of 8 x 8 numbers spill there.
 */
const ADAPTERS: Readonly<Record<AdapterClass, AdapterCosts>> = {
  lavapipe: { ...CPU, load: 8, broadcast: 0.6, multiply: 0.3, launch: 25_000 },
  swiftshader: { ...CPU, load: 14, broadcast: 2, multiply: 1, launch: 20_000 },
  integrated: { ...GPU, load: 10, registers: 64, products: 32, searches: 64 },
  discrete: { ...GPU, load: 5, registers: 128, products: 128, searches: 256 },
};

/** Which line of the table is a target's. */
function adapterClass({ kind, integrated }: Target): AdapterClass {
  if (kind !== 'gpu') return kind;
  return integrated ? 'integrated' : 'discrete';
}

export const costsOf = (target: Target): AdapterCosts => ADAPTERS[adapterClass(target)];
