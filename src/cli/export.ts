import { join } from 'node:path';
import { writeSafetensorsFile } from '../data/node/files.js';
import { makeFolder } from '../data/node/folders.js';
import { huggingFaceExport, modelMetadata, timmTensors } from '../eval/export.js';
import type { NetworkName } from '../eval/weight-names.js';
import type { Outcome } from './command.js';
import { checkCreatable, writeJson } from './output-file.js';
import type { Printer } from './printer.js';
import { type WeightsOptions, weightsFrom } from './weights-source.js';

export interface ExportOptions extends WeightsOptions {
  readonly output: string;
  readonly format: 'timm' | 'hf' | undefined;
  readonly network: NetworkName | undefined;
}

/** `sop-gpu export`: a backbone for timm (one file) or for Hugging Face (a folder). */
export async function exportCommand(options: ExportOptions, printer: Printer): Promise<Outcome> {
  const { output, format = 'timm' } = options;
  if (format === 'timm') await checkCreatable(output);
  const loaded = await weightsFrom(options, printer, options.network);
  const files =
    format === 'timm'
      ? [output]
      : ['model.safetensors', 'config.json', 'preprocessor_config.json'].map((name) => join(output, name));
  if (format === 'timm') {
    await writeSafetensorsFile(output, timmTensors(loaded), modelMetadata(loaded));
  } else {
    const [tensors = '', config = '', preprocessor = ''] = files;
    await makeFolder(output);
    const made = huggingFaceExport(loaded);
    await writeSafetensorsFile(tensors, made.tensors, made.metadata);
    await writeJson(config, made.config);
    await writeJson(preprocessor, made.preprocessor);
  }
  const { vit } = loaded;
  const parameters = [...loaded.weights.values()].reduce((sum, { length }) => sum + length, 0);
  printer.line(`${output}: ${parameters} parameters of ${loaded.where}`);
  // Also of a path with backslashes or quotes.
  const literal = JSON.stringify(output);
  if (format === 'timm') {
    const sizes = `img_size=${vit.imageSize}, patch_size=${vit.patch}, in_chans=${vit.channels}, embed_dim=${vit.width}, depth=${vit.depth}, num_heads=${vit.heads}, mlp_ratio=${vit.mlpRatio}`;
    printer.line(
      `timm.models.VisionTransformer(${sizes}, num_classes=0).load_state_dict(safetensors.torch.load_file(${literal}))`,
    );
  } else {
    printer.line(`transformers.ViTModel.from_pretrained(${literal}, add_pooling_layer=False)`);
  }
  return {
    result: { format, network: options.network ?? 'teacher', from: loaded.where, files, parameters, step: loaded.step },
  };
}
