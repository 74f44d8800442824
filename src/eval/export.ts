import type { NamedArray } from '../data/safetensors.js';
import { ExitCode, SopError } from '../errors.js';
import { NORM_EPS } from '../nn/layers.js';
import { vitSpecs } from '../nn/vit.js';
import { huggingFaceTensors } from './weight-names.js';
import { IMAGENET, type LoadedWeights } from './weights.js';

/** What a reader of the weights must know, under the names of configuration keys. */
export function modelMetadata({ vit, globalFeature, statistics, step }: LoadedWeights): Map<string, string> {
  const metadata = new Map([
    ['format', 'pt'],
    ['model.arch', 'custom'],
    ['model.width', String(vit.width)],
    ['model.depth', String(vit.depth)],
    ['model.heads', String(vit.heads)],
    ['model.mlp_ratio', String(vit.mlpRatio)],
    ['model.patch_size', String(vit.patch)],
    ['model.image_size', String(vit.imageSize)],
    ['model.init_std', String(vit.initStd)],
    ['model.channels', String(vit.channels)],
    ['model.global_feature', globalFeature],
  ]);
  if (statistics) metadata.set('data.mean', statistics.mean.join(', ')).set('data.std', statistics.std.join(', '));
  if (step !== null) metadata.set('step', String(step));
  return metadata;
}

/** The tensors of a backbone with timm's names and shapes. */
export function timmTensors({ vit, weights }: Pick<LoadedWeights, 'vit' | 'weights'>): NamedArray[] {
  return vitSpecs(vit).map(({ name, shape }) => ({ name, dtype: 'F32', shape, data: get(weights, name) }));
}

/** The files of a Hugging Face ViTModel (without pooler). */
export interface HuggingFaceExport {
  readonly tensors: readonly NamedArray[];
  readonly metadata: ReadonlyMap<string, string>;
  /** `config.json` */
  readonly config: Readonly<Record<string, unknown>>;
  /**
   * `preprocessor_config.json`: the evaluation protocol, as `preprocess` follows it, but for the corner of the crop: half a
   * pixel is rounded down there, here to even as in torchvision, so a quarter of long images is cut one pixel off.
   */
  readonly preprocessor: Readonly<Record<string, unknown>>;
}

/** Translates a backbone for `transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False)`. */
export function huggingFaceExport(loaded: LoadedWeights): HuggingFaceExport {
  const { vit, weights } = loaded;
  const { mean, std } = loaded.statistics ?? IMAGENET;
  return {
    tensors: vitSpecs(vit).flatMap(({ name, shape }) => huggingFaceTensors(name, shape, get(weights, name))),
    metadata: modelMetadata(loaded),
    config: {
      architectures: ['ViTModel'],
      model_type: 'vit',
      hidden_size: vit.width,
      num_hidden_layers: vit.depth,
      num_attention_heads: vit.heads,
      intermediate_size: Math.round(vit.width * vit.mlpRatio),
      hidden_act: 'gelu',
      hidden_dropout_prob: 0,
      attention_probs_dropout_prob: 0,
      initializer_range: 0.02,
      layer_norm_eps: NORM_EPS,
      image_size: vit.imageSize,
      patch_size: vit.patch,
      num_channels: vit.channels,
      qkv_bias: true,
      encoder_stride: vit.patch,
      torch_dtype: 'float32',
    },
    preprocessor: {
      // The processor that crops the centre after resizing the shorter side.
      image_processor_type: 'BitImageProcessor',
      do_convert_rgb: vit.channels === 3,
      do_resize: true,
      size: { shortest_edge: Math.round((vit.imageSize * 256) / 224) },
      resample: 3,
      do_center_crop: true,
      crop_size: { height: vit.imageSize, width: vit.imageSize },
      do_rescale: true,
      rescale_factor: 1 / 255,
      do_normalize: true,
      image_mean: mean.slice(0, vit.channels),
      image_std: std.slice(0, vit.channels),
    },
  };
}

function get(weights: LoadedWeights['weights'], name: string): Float32Array {
  const values = weights.get(name);
  if (values) return values;
  throw new SopError(ExitCode.internal, {
    what: 'weights cannot be written',
    where: name,
    why: 'the tensor is missing',
    fix: 'report this as a bug',
  });
}
