/* LoRA files as other programs read them (kohya's form). */
#ifndef GRAPHRUN_LORA_FILE_H
#define GRAPHRUN_LORA_FILE_H
#include "io/tensors.h"

enum { LORA_KEEP = DTYPES }; /* save type: every tensor as it is */

/* Writes a LoRA file: all tensors cast to `save` (alpha among them, as sd-scripts does;
 * LORA_KEEP: none), the metadata given, and sshs_model_hash and sshs_legacy_hash of what
 * is stored, which replace entries of that name. A path that ends in .ckpt, .pt … gets
 * torch's form, without metadata. Whole or not at all. */
bool lora_file_write(const char *path, const TensorOut *t, int n, int save,
                     const Meta *meta, int n_meta, Err *e);
#endif
