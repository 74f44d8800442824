import { add } from './add.js';
import { attention, attentionBackward } from './attention.js';
import { augment } from './augment.js';
import { cast } from './cast.js';
import { columnSum } from './column_sum.js';
import { crossEntropy, crossEntropyBackward } from './cross_entropy.js';
import { embedTokens, embedTokensBackward } from './embed_tokens.js';
import { gatherRows, scatterRows } from './gather_rows.js';
import { gelu, geluBackward } from './gelu.js';
import { l2Normalize, l2NormalizeBackward } from './l2_normalize.js';
import { layernorm, layernormBackward } from './layernorm.js';
import { listedNeighbours } from './listed_neighbours.js';
import { matmul } from './matmul.js';
import { meanPatches, meanPatchesBackward } from './mean_patches.js';
import { neighbours } from './neighbours.js';
import { packNorms } from './pack_norms.js';
import { patchify } from './patchify.js';
import { posResample, posResampleBackward } from './pos_resample.js';
import { residual, residualBackward } from './residual.js';
import { sampleRows } from './sample_rows.js';
import { selectRows } from './select_rows.js';
import { softmax, softmaxBackward } from './softmax.js';
import { sopProbabilities, sopProbabilitiesBackward } from './sop_probabilities.js';
import { staleNeighbours } from './stale_neighbours.js';
import { support } from './support.js';
import { updateAdamw } from './update_adamw.js';
import { updateEma } from './update_ema.js';
import { updateFifo } from './update_fifo.js';
import { updateFlag } from './update_flag.js';
import { updateLossScale, updateLossScaleGradients } from './update_loss_scale.js';
import { updateNeighboursFill, updateNeighboursInsert } from './update_neighbours.js';
import { weightedSum } from './weighted_sum.js';

/** All operations: the one list. To add a kernel see README, "How to add a kernel". */
export const ops = [
  add,
  attention,
  attentionBackward,
  augment,
  cast,
  columnSum,
  crossEntropy,
  crossEntropyBackward,
  embedTokens,
  embedTokensBackward,
  gatherRows,
  gelu,
  geluBackward,
  l2Normalize,
  l2NormalizeBackward,
  layernorm,
  layernormBackward,
  listedNeighbours,
  matmul,
  meanPatches,
  meanPatchesBackward,
  neighbours,
  packNorms,
  patchify,
  posResample,
  posResampleBackward,
  residual,
  residualBackward,
  sampleRows,
  scatterRows,
  selectRows,
  sopProbabilities,
  sopProbabilitiesBackward,
  softmax,
  softmaxBackward,
  staleNeighbours,
  support,
  updateAdamw,
  updateEma,
  updateFifo,
  updateFlag,
  updateLossScale,
  updateLossScaleGradients,
  updateNeighboursFill,
  updateNeighboursInsert,
  weightedSum,
] as const;
