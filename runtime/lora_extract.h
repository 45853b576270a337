/* The difference of two models as a LoRA. */
#ifndef GRAPHRUN_LORA_EXTRACT_H
#define GRAPHRUN_LORA_EXTRACT_H
#include "runtime/lora_merge.h"

typedef struct ExtractOptions {
    SvdOptions svd;  /* most_conv 0: no layers of resnets and samplers */
    bool cast;       /* both models' weights to svd.precision first */
    double min_diff; /* of a text encoder that counts as changed */
} ExtractOptions;

typedef struct Extracted {
    LoraSet *set;
    double text_diff, unet_diff;    /* largest differences */
    const char *text_at, *unet_at;  /* and where, in the arena */
    int text_modules, unet_modules; /* looked at */
    bool text_kept;
    int equal; /* modules left out because both models have the same weight there */
} Extracted;

/* Layers are those that sd-scripts gives adapters (lora.md section 1). Both models must
 * have the same ones in the same shapes. No difference anywhere is an error, unless
 * svd.original. dev: all threads; a model's tensors are read one by one per thread. */
bool lora_extract(Arena *a, const char *original, const char *tuned,
                  const ExtractOptions *o, Device *dev, Extracted *out, Err *e);
#endif
