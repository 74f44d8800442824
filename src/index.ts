/**
 * Public API of sop-gpu, the same in Node and in browsers; examples/reference.md is made from it. `sop-gpu/node` adds what
 * only Node has: opening an adapter through Dawn. First what most programs need, then the parts it is made of.
 */

export { resolveConfig } from './config/resolve.js';
export { type Config, ConfigSchema } from './config/schema.js';
export type { Checkpoint } from './data/checkpoint.js';
export {
  type DataSplits,
  type DecodedImage,
  type ImageSet,
  type ResidentInit,
  residentSet,
  subset,
} from './data/dataset.js';
export { CheckpointStore, type StoredCheckpoint } from './data/opfs.js';
export { decodePicture, type Picture, type PictureSetOptions, pictureSet } from './data/pictures.js';
export {
  type ArrayOf,
  type Dtype,
  decodeSafetensors,
  type EncodeOptions,
  encodeSafetensors,
  type Metadata,
  type NamedArray,
  type SafetensorsFile,
} from './data/safetensors.js';
export { channelStatistics, type Statistics } from './data/statistics.js';
export { createEngine, Engine, type EngineOptions, planTraining } from './engine/engine.js';
export { evaluateFeatures, type Features, ImageEncoder, loadWeights } from './engine/image-encoder.js';
export { EngineKernel, type KernelAttributes, type KernelTensor } from './engine/kernel.js';
export { evaluationLine, type MetricsLine, metricsLine } from './engine/run.js';
export { configOf, type Settings, settingsOf } from './engine/settings.js';
export { type RunOptions, type TrainingOptions, TrainingRun } from './engine/training-run.js';
export type { BatchPictures, Member, PrototypePicture, ViewPicture } from './engine/watch.js';
export { type Complaint, ExitCode, SopError } from './errors.js';
export { collapse } from './eval/collapse.js';
export { Encoder, type Weights } from './eval/encoder.js';
export { type Evaluation, Evaluator, type Protocol, quickProtocol } from './eval/evaluator.js';
export { timmTensors } from './eval/export.js';
export { type Comparison, classify, type KnnResult, standardError } from './eval/knn.js';
export { type ImageFormat, preprocess, toRgba } from './eval/preprocess.js';
export { type Nearest, nearest, normalizeRows } from './eval/similarity.js';
export { type Spread, spread } from './eval/spread.js';
export { imageFormat, type LoadedWeights, openWeights, readWeights, type WeightOverrides } from './eval/weights.js';
export { type AdapterDescription, type Gpu, type OpenOptions, openGpu } from './gpu/device.js';
export { defaultTarget, type Target } from './gpu/target.js';
export { differentiate } from './graph/differentiate.js';
export { Graph, type Node } from './graph/graph.js';
export { type Attributes, defineOp, GraphError, type NoAttributes, type Op, type Scalar } from './graph/op.js';
export type { DType, RealType, Spec, Tensor } from './graph/tensor.js';
export type { InitStd } from './nn/parameters.js';
export type { VitShape } from './nn/vit.js';
export { type AttentionAttributes, attention } from './ops/attention.js';
export { gelu } from './ops/gelu.js';
export { ops } from './ops/index.js';
export { layernorm } from './ops/layernorm.js';
export { type MatmulAttributes, matmul } from './ops/matmul.js';
export { type NeighboursAttributes, neighbours } from './ops/neighbours.js';
export type { Segment } from './ops/segments.js';
export { softmax } from './ops/softmax.js';
export { type SopAttributes, sopProbabilities } from './ops/sop_probabilities.js';
export { type Compiled, compile } from './plan/compile.js';
export { type Plan, plan } from './plan/plan.js';
export { type Elements, Replay } from './plan/replay.js';
export { describePlan, type PlanReport, planSummary } from './plan/report.js';
export { Draws } from './rng.js';
export { debugStep } from './sop/debug-step.js';
export { Feed, type StepBatch } from './sop/feed.js';
export { initialWeights } from './sop/initialize.js';
export { type RunClock, runClock, runSteps, type StepRecord } from './sop/loop.js';
export type { NetworkShape } from './sop/networks.js';
export { traceOnDevice } from './sop/search-check.js';
export { networkShape } from './sop/setup.js';
export type { StepValues } from './sop/step-inputs.js';
export type { LossScaleResult, StepResult } from './sop/step-result.js';
export type { TrainStep } from './sop/step-shape.js';
export { traceTrainStep } from './sop/train-step.js';
export { type SetupProgress, Trainer } from './sop/trainer.js';
export { type DataShape, type Training, traceTraining } from './sop/training.js';
