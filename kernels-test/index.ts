import { addTests } from './add.js';
import { attentionTests } from './attention.js';
import { augmentTests } from './augment.js';
import { castTests } from './cast.js';
import { columnSumTests } from './column_sum.js';
import { crossEntropyTests } from './cross_entropy.js';
import { embedTokensTests } from './embed_tokens.js';
import { gatherRowsTests } from './gather_rows.js';
import { geluTests } from './gelu.js';
import type { AnyOpTest } from './interpreter.js';
import { l2NormalizeTests } from './l2_normalize.js';
import { layernormTests } from './layernorm.js';
import { listedNeighboursTests } from './listed_neighbours.js';
import { matmulTests } from './matmul.js';
import { meanPatchesTests } from './mean_patches.js';
import { neighboursTests } from './neighbours.js';
import { packNormsTests } from './pack_norms.js';
import { patchifyTests } from './patchify.js';
import { posResampleTests } from './pos_resample.js';
import { residualTests } from './residual.js';
import { sampleRowsTests } from './sample_rows.js';
import { selectRowsTests } from './select_rows.js';
import { softmaxTests } from './softmax.js';
import { sopProbabilitiesTests } from './sop_probabilities.js';
import { staleNeighboursTests } from './stale_neighbours.js';
import { supportTests } from './support.js';
import { updateAdamwTests } from './update_adamw.js';
import { updateEmaTests } from './update_ema.js';
import { updateFifoTests } from './update_fifo.js';
import { updateFlagTests } from './update_flag.js';
import { updateLossScaleTests } from './update_loss_scale.js';
import { updateNeighboursTests } from './update_neighbours.js';
import { weightedSumTests } from './weighted_sum.js';

/** All op tests: the one list. */
export const opTests: readonly AnyOpTest[] = [
  addTests,
  attentionTests,
  augmentTests,
  castTests,
  columnSumTests,
  crossEntropyTests,
  embedTokensTests,
  updateFlagTests,
  gatherRowsTests,
  geluTests,
  l2NormalizeTests,
  layernormTests,
  listedNeighboursTests,
  matmulTests,
  meanPatchesTests,
  neighboursTests,
  packNormsTests,
  patchifyTests,
  posResampleTests,
  residualTests,
  sampleRowsTests,
  selectRowsTests,
  sopProbabilitiesTests,
  softmaxTests,
  staleNeighboursTests,
  supportTests,
  updateAdamwTests,
  updateEmaTests,
  updateFifoTests,
  updateLossScaleTests,
  updateNeighboursTests,
  weightedSumTests,
].flat() as readonly unknown[] as readonly AnyOpTest[];
