/**
 * Who computes: `lavapipe` (Mesa on the CPU), `swiftshader` (Google's Vulkan on the CPU), `gpu` (anything else).
 * Kernels choose variants by it, because the two software adapters are bound by other things than a GPU.
 */
export type TargetKind = 'lavapipe' | 'swiftshader' | 'gpu';

/** What a plan needs to know of an adapter. Plain data: a plan can be made for an adapter that is not present. */
export interface Target {
  /** As the adapter calls itself, for people. */
  readonly name: string;
  readonly kind: TargetKind;
  /** Of a GPU: whether it shares the processor's memory, as far as its name tells. */
  readonly integrated: boolean;
  /** Invocations per subgroup; 0 where subgroups are missing or their size is not one fixed number. */
  readonly subgroupSize: number;
  readonly f16: boolean;
  readonly timestamps: boolean;
  /** Invocations per workgroup. */
  readonly maxInvocations: number;
  readonly maxWorkgroupsPerDimension: number;
  /** Workgroup (shared) memory, bytes. */
  readonly sharedBytes: number;
  /** Storage buffers one compute stage can bind. */
  readonly maxStorageBuffers: number;
  /** Largest storage binding, bytes. */
  readonly maxBindingBytes: number;
  /** Largest buffer, bytes. */
  readonly maxBufferBytes: number;
  /** Largest work of a dispatch: WebGPU has no such limit, but drivers of GPUs end what seems to hang. */
  readonly maxDispatchFlops: number;
  /** What `sop-gpu tune` found fastest on this adapter: variants by `callKey`. Without it the ops' own choices count. */
  readonly tuned?: ReadonlyMap<string, string>;
}

/** WebGPU's default limits and no optional feature: what every adapter has, and what `plan` uses without a device. */
export const defaultTarget: Target = {
  name: 'WebGPU defaults',
  kind: 'gpu',
  integrated: false,
  subgroupSize: 0,
  f16: false,
  timestamps: false,
  maxInvocations: 256,
  maxWorkgroupsPerDimension: 65_535,
  sharedBytes: 16_384,
  maxStorageBuffers: 8,
  maxBindingBytes: 134_217_728,
  maxBufferBytes: 268_435_456,
  maxDispatchFlops: 2e10,
};

/** The kind that an adapter's own words point to: in Chrome vendor and architecture alone. */
export function targetKind(words: string): TargetKind {
  if (/llvmpipe|lavapipe|mesa software/i.test(words)) return 'lavapipe';
  return /swiftshader/i.test(words) ? 'swiftshader' : 'gpu';
}

/**
 * Whether a GPU's own words are those of one that shares the processor's memory: WebGPU does not say. Phones and Apple have
 * no other kind; of Intel only Arc and Flex cards are discrete; AMD's lack a model number, or it ends in M.
 */
export function isIntegrated(words: string): boolean {
  if (/\b(apple|qualcomm|adreno|mali|arm|samsung|img|powervr|videocore|broadcom)\b/i.test(words)) return true;
  if (/\bintel\b/i.test(words)) return !/\barc\b.* [AB]\d{3}|flex|max series|dg2|hpg?\b/i.test(words);
  return /\bradeon(\(tm\))? ((vega \d+ )?graphics|\d{3}m)\b/i.test(words);
}
