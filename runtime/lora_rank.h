/* LoRAs of another rank: the parts of a DyLoRA, and any LoRA cut by SVD. */
#ifndef GRAPHRUN_LORA_RANK_H
#define GRAPHRUN_LORA_RANK_H
#include "runtime/lora_merge.h"

int64_t lora_largest_rank(const LoraFile *f);

/* The first `rank` rows of each `down` and columns of each `up`, in the file's types, under
 * kohya's names; in a. paper: alpha times rank/R, which is what was trained at that rank
 * when alpha/R is the scale of all; else alpha stays (lora.md section 5). */
void dylora_cut(Arena *a, const LoraFile *f, int64_t rank, bool paper, TensorOut **out,
                int *n);

/* Each module's product up down cut to a rank; alpha / rank stays what it was. */
bool lora_resize(const LoraFile *f, const SvdOptions *o, Device *dev, LoraSet **out,
                 Err *e);
#endif
