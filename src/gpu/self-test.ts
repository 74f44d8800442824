import { reasonOf } from '../errors.js';
import type { Gpu } from './device.js';

/** One question to the device, and whether its answer was right. */
export interface SelfTest {
  readonly name: string;
  readonly ok: boolean;
  /** What was computed, or what went wrong, in one line. */
  readonly detail: string;
}

interface Kernel {
  readonly label: string;
  readonly code: string;
  readonly input: Float32Array | Uint32Array;
  /** Results, in 32-bit words. */
  readonly words: number;
}

/**
 * Runs one workgroup over `@binding(0) input` and `@binding(1) output` and reads the output's bits.
 * It uses nothing of the engine: when the engine fails, this must still tell a bad adapter from a bad engine.
 */
async function ask({ device, check }: Gpu, { label, code, input, words }: Kernel): Promise<Uint32Array> {
  const { COPY_SRC, COPY_DST, STORAGE, MAP_READ } = GPUBufferUsage;
  const buffer = (name: string, size: number, usage: number) =>
    device.createBuffer({ label: `self-test ${label} ${name}`, size, usage });
  const source = buffer('input', input.byteLength, STORAGE | COPY_DST);
  const result = buffer('output', words * 4, STORAGE | COPY_SRC | COPY_DST);
  const host = buffer('read-back', words * 4, MAP_READ | COPY_DST);
  const module = device.createShaderModule({ label: `self-test ${label}`, code });
  const pipeline = device.createComputePipeline({ label: `self-test ${label}`, layout: 'auto', compute: { module } });
  const group = device.createBindGroup({
    label: `self-test ${label}`,
    layout: pipeline.getBindGroupLayout(0),
    entries: [source, result].map((one, binding) => ({ binding, resource: { buffer: one } })),
  });
  device.queue.writeBuffer(source, 0, input);
  device.queue.writeBuffer(result, 0, new Uint32Array(words).fill(0x7fc0_dead)); // an answer never given must not look right
  const encoder = device.createCommandEncoder({ label: `self-test ${label}` });
  const pass = encoder.beginComputePass({ label: `self-test ${label}` });
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(result, 0, host, 0, words * 4);
  device.queue.submit([encoder.finish()]);
  await host.mapAsync(GPUMapMode.READ);
  const bits = new Uint32Array(host.getMappedRange().slice(0));
  for (const one of [host, source, result]) one.destroy();
  check();
  return bits;
}

const floats = (bits: Uint32Array) => new Float32Array(bits.buffer);

/** C = A A of a 12 x 12 matrix of small integers: exact in float32, whatever the order of the sum. */
async function matmul(gpu: Gpu): Promise<string> {
  const n = 12;
  const a = Float32Array.from({ length: n * n }, (_, i) => ((i * 7) % 11) - 5);
  const expected = Array.from({ length: n * n }, (_, at) => {
    let sum = 0;
    for (let k = 0; k < n; k++) sum += a[Math.floor(at / n) * n + k]! * a[k * n + (at % n)]!;
    return sum;
  });
  const code = `
    @group(0) @binding(0) var<storage, read> input: array<f32>;
    @group(0) @binding(1) var<storage, read_write> output: array<f32>;
    @compute @workgroup_size(${n}, ${n}) fn main(@builtin(local_invocation_id) id: vec3u) {
      var sum = 0.0;
      for (var k = 0u; k < ${n}u; k++) { sum += input[id.y * ${n}u + k] * input[k * ${n}u + id.x]; }
      output[id.y * ${n}u + id.x] = sum;
    }`;
  const got = floats(await ask(gpu, { label: 'matmul', code, input: a, words: n * n }));
  const wrong = expected.findIndex((value, i) => got[i] !== value);
  if (wrong >= 0) throw new Error(`element ${wrong} is ${got[wrong]}, not ${expected[wrong]}`);
  return `${n} x ${n} x ${n}, exact`;
}

/** 0 + 1 + ... + 999 through workgroup memory and barriers. */
async function reduction(gpu: Gpu): Promise<string> {
  const input = Float32Array.from({ length: 1000 }, (_, i) => i);
  const code = `
    @group(0) @binding(0) var<storage, read> input: array<f32>;
    @group(0) @binding(1) var<storage, read_write> output: array<f32>;
    var<workgroup> part: array<f32, 64>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) lane: u32) {
      var sum = 0.0;
      for (var i = lane; i < 1000u; i += 64u) { sum += input[i]; }
      part[lane] = sum;
      for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { part[lane] += part[lane + half]; }
      }
      if (lane == 0u) { output[0] = part[0]; }
    }`;
  const [sum] = floats(await ask(gpu, { label: 'reduction', code, input, words: 1 }));
  if (sum !== 499_500) throw new Error(`the sum of 0 to 999 is ${sum}, not 499500`);
  return 'sum of 1,000 values, exact';
}

/** Comparisons do not find NaN in WGSL (compilers assume there is none), so the engine tests bits: so must this work. */
async function nanBits(gpu: Gpu): Promise<string> {
  const input = Float32Array.of(Number.NaN, Infinity, -Infinity, 0, -1, 3.4028234663852886e38, 1e-45, 1);
  const code = `
    @group(0) @binding(0) var<storage, read> input: array<u32>;
    @group(0) @binding(1) var<storage, read_write> output: array<u32>;
    @compute @workgroup_size(8) fn main(@builtin(local_invocation_index) i: u32) {
      output[i] = select(0u, 1u, (input[i] & 0x7f800000u) == 0x7f800000u);
    }`;
  const got = (await ask(gpu, { label: 'NaN detection', code, input, words: input.length })).join('');
  if (got !== '11100000') throw new Error(`flags of NaN, Inf, -Inf and five finite numbers are ${got}, not 11100000`);
  return 'NaN, Inf and -Inf told from finite numbers';
}

/**
 * Kernels are chosen by the subgroup size that the adapter states: a workgroup of that size must be one subgroup, with its
 * invocations in their order.
 */
async function subgroups(gpu: Gpu): Promise<string> {
  const size = gpu.target.subgroupSize;
  if (size === 0) return 'none of one fixed size: not used';
  const code = `enable subgroups;
    @group(0) @binding(0) var<storage, read> input: array<u32>;
    @group(0) @binding(1) var<storage, read_write> output: array<u32>;
    @compute @workgroup_size(${size}) fn main(@builtin(local_invocation_index) i: u32,
      @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) size: u32) {
      output[i] = size;
      output[i + ${size}u] = subgroupAdd(input[i]);
      output[i + ${2 * size}u] = lane + subgroupBroadcast(input[i], ${size - 1}u);
    }`;
  const input = Uint32Array.from({ length: size }, (_, i) => i);
  const got = await ask(gpu, { label: 'subgroups', code, input, words: 3 * size });
  const [seen] = got;
  if (seen !== size) throw new Error(`a shader sees ${seen} invocations, the adapter states ${size}`);
  const expected = [
    ...input.map(() => size),
    ...input.map(() => (size * (size - 1)) / 2),
    ...input.map((i) => i + size - 1),
  ];
  const wrong = expected.findIndex((value, i) => got[i] !== value);
  if (wrong >= 0) throw new Error(`a workgroup of ${size} invocations is not one subgroup of them in their order`);
  return `${size} invocations, as stated`;
}

/**
 * In f16 the loss is scaled up until a gradient becomes infinite. Vulkan and WGSL let an adapter take the largest number
 * instead, which training would not notice: no wrong result, but worth a word.
 */
async function halfOverflow(gpu: Gpu): Promise<string> {
  if (!gpu.target.f16) return 'no shader-f16: not used';
  const code = `enable f16;
    @group(0) @binding(0) var<storage, read> input: array<vec2<f32>>;
    @group(0) @binding(1) var<storage, read_write> output: array<vec2<f16>>;
    @compute @workgroup_size(1) fn main() { output[0] = vec2<f16>(input[0]); }`;
  const input = Float32Array.of(1e6, -7e4);
  const [bits = 0] = await ask(gpu, { label: 'f16 overflow', code, input, words: 1 });
  if (bits === 0xfbff_7bff) return 'what is too large becomes 65504: train in f32';
  if (bits !== 0xfc00_7c00) throw new Error(`1e6 and -7e4 are stored as ${bits.toString(16)}`);
  return 'what is too large becomes infinite';
}

/** A few kernels with known answers. Never throws: what goes wrong is in the result. */
export async function selfTest(gpu: Gpu): Promise<SelfTest[]> {
  const tests = { matmul, reduction, 'NaN detection': nanBits, subgroups, 'f16 overflow': halfOverflow };
  const results: SelfTest[] = [];
  for (const [name, test] of Object.entries(tests)) {
    try {
      results.push({ name, ok: true, detail: await test(gpu) });
    } catch (error) {
      results.push({ name, ok: false, detail: reasonOf(error) });
    }
  }
  return results;
}
