/** What `--help` of the debug commands says of their files (safetensors; settings are strings in `__metadata__`). */

export const stepFormat = `
Input, f32 unless said. B images, V views (2 global, then the local ones), L patches of a global view, width w, embeddings
of d numbers, T tasks of K anchors with k neighbours each. Rows are view-major: all images of one view, then the next.
  student.<name>, teacher.<name>     timm's names; head.mlp.{0,2,4}.{weight,bias}; student.masked_embed [1, w]
  moment1.<name>, moment2.<name>     optional, 0 where left out
  views.global [2, B, C, H, W]       normalised; the patch size divides H = W
  views.local [V - 2, B, C, h, w]    left out or empty where V is 2
  masks [2, B, L] u8                 1: the patch is masked
  memory.cls [N, d], memory.patch, memory.cls_pointer [1] i32, memory.patch_pointer
  anchors.cls [T, K] i32, anchors.patch
  patch_rows [B] i32                 the patch of its second global view that each image gives to memory.patch
  keep.<block>.{attn,mlp} [V B]      optional, 0 or 1: stochastic depth; kept branches are divided by 1 - rate of the block
Settings: keys of the configuration (model.heads, model.drop_path, sop.cls.neighbours, optim.lr as used in this step, ...),
momentum, and step (from 1, for AdamW's bias correction). Sizes follow from the tensors; those that are given must agree.
train.precision f16 computes as train --precision f16 does, with train.loss_scale; gradients come out divided by it.

Output: loss, loss_cls, loss_patch [1]; student.cls [V B, d], student.patch [masked, d], teacher.cls [2 B, d],
teacher.patch [2 B, L, d]; where k > 0 neighbours.cls [T, K, k] i32 and scores.cls, cosines, and the same of patch;
prob.student.cls [T, V B, K], prob.teacher.cls [T, 2 B, K], prob.student.patch and prob.teacher.patch [T, masked, K];
grad.<name> before clipping; updated.student.<name>, updated.teacher.<name>, updated.memory.{cls,patch}[_pointer];
in f16 updated.loss_scale [1] and updated.loss_scale_counts [2] i32 (steps since it changed, steps skipped).
`;

export const augmentFormat = `
Input:
  images [B, H, W, C] u8, C = 1 or 3
  crop [B, 4] i32                    x, y, width, height in pixels of the image
  flip, grey, solarize [B] u8        0 or 1
  blur [B] f32                       sigma in pixels of the view, 0: none
  jitter [B, 4] f32                  factors of brightness, contrast and saturation, hue shift in turns; 1, 1, 1, 0: none
  jitter_order [B, 4] i32            0 brightness, 1 contrast, 2 saturation, 3 hue, in order of application
Settings: size (side of the views), mean and std (a number for each channel, commas between them).
Output: views [B, C, size, size] f32.
`;
