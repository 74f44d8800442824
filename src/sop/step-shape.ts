import type { RealType, Tensor } from '../graph/tensor.js';
import type { Parameters } from '../nn/parameters.js';
import type { ParameterPack } from '../optim/adamw.js';
import type { LossScale } from './loss-scale.js';
import type { TaskResult } from './losses.js';
import type { Memory } from './memory.js';
import type { Embeddings, NetworkShape } from './networks.js';
import type { PrototypeOptions, TaskShape } from './prototypes.js';
import type { BatchInputs, StepScalars } from './step-inputs.js';

/** Sizes of a micro-batch: images that go forward and backward together. */
export interface BatchShape {
  /** B. */
  readonly images: number;
  /** Length of the list of masked patches; shorter lists are padded. */
  readonly maskedPatches: number;
  /** Length of the list of teacher patches that reach the head: the partners of masked ones, and those that E_P gets. */
  readonly teacherPatches: number;
}

/** Everything about a step that is fixed when it is traced. */
export interface StepShape {
  readonly network: NetworkShape;
  /** The micro-batches of a step, in order; one where the images of a step fit into the device together. */
  readonly batches: readonly [BatchShape, ...BatchShape[]];
  readonly prototypes: PrototypeOptions;
  readonly cls: TaskShape;
  readonly patch: TaskShape;
  readonly clsWeight: number;
  readonly patchWeight: number;
  /** Whether residual branches are dropped (the input `keep` exists). */
  readonly dropPath: boolean;
  /** Whether the student's blocks run again in the backward pass instead of keeping their activations. */
  readonly recompute: boolean;
  /** Of what flows through the backbones and of the copies of their matrices; all else is f32. */
  readonly precision: RealType;
  readonly clip: number;
  /**
   * `given`: anchors are inputs; `sampled`: drawn on the device; `fixed`: drawn as in step 0, always (Table C.7);
   * `low-energy`: drawn by the spread of their neighbours' scores, as `sampled` where an anchor has fewer than two.
   */
  readonly anchors: 'given' | 'sampled' | 'fixed' | 'low-energy';
  /** Elements of one buffer binding. */
  readonly maxElements: number;
}

/** Views of B images: global ones [2 B, C, H, W], then local ones [(V - 2) B, C, h, w] if there are any, view-major. */
export type ViewTensors = readonly [global: Tensor, local?: Tensor];

/** Forward and backward of B images. */
export interface MicroBatch {
  /** B. */
  readonly images: number;
  /** What these images are of all that the step sees: their weight in its losses and gradients. */
  readonly share: number;
  readonly inputs: BatchInputs;
  readonly embeddings: { readonly student: Embeddings; readonly teacher: Embeddings };
  readonly cls: readonly TaskResult[];
  readonly patch: readonly TaskResult[];
  readonly loss: { readonly total: Tensor; readonly cls: Tensor; readonly patch: Tensor };
  /** One for each parameter of the student, in its order; null where the loss does not depend on it. */
  readonly gradients: readonly (Tensor | null)[];
}

/** A traced step: what to write, what to read, what it changes. */
export interface TrainStep {
  readonly scalars: StepScalars;
  readonly student: Parameters;
  readonly teacher: Parameters;
  readonly moments: readonly [Parameters, Parameters];
  readonly memory: { readonly cls: Memory; readonly patch: Memory };
  readonly batches: readonly [MicroBatch, ...MicroBatch[]];
  /** Means over the images of all micro-batches, [1] each. */
  readonly loss: { readonly total: Tensor; readonly cls: Tensor; readonly patch: Tensor };
  /** Gradients of the student's parameters, before clipping. */
  readonly gradients: Parameters;
  readonly packs: readonly ParameterPack[];
  /** Mean entropy of the teacher's [CLS] predictions, nats: falls to 0 or sticks at ln K when training collapses. */
  readonly teacherEntropy: Tensor;
  /**
   * u32 [1], state: 0, or 1 + the place of the first non-finite number in [loss, squared gradient norms...]. Stays up until
   * the host writes 0.
   */
  readonly flag: Tensor;
  /** Where gradients pass through f16; else null. */
  readonly lossScale: LossScale | null;
  /** f32 [2] each: sums of squares of parameters and of their update. */
  readonly norms: readonly Tensor[];
  /** u32 [1] for each memory that keeps lists of neighbours: those that were searched anew. */
  readonly recomputed: readonly Tensor[];
}
