import { createEngine } from 'sop-gpu';

/** Features of pictures under given weights (a safetensors file with timm's names): unit rows, dot products are cosines. */
export async function embedPictures(weights: Uint8Array, files: readonly File[]) {
  const engine = await createEngine();
  const encoder = await engine.encoder(weights);
  const { values, count, width } = await encoder.embed(files);
  encoder.destroy();
  await engine.close();
  return { values, count, width };
}
